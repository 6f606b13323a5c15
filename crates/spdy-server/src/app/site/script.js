// Sends many requests at once and shows how long they took together.
// Written for the browsers that spoke SPDY: no promises, no arrow functions.
(function () {
  'use strict';

  var COUNT = 100;
  var button = document.getElementById('run');
  var result = document.getElementById('result');

  function run() {
    var left = COUNT;
    var failed = 0;
    var start = Date.now();

    function done(ok) {
      left -= 1;
      if (!ok) failed += 1;
      if (left > 0) return;
      result.textContent = COUNT + ' requests in ' + (Date.now() - start) + ' ms' +
        (failed ? ', ' + failed + ' of them failed' : '');
      button.disabled = false;
    }

    button.disabled = true;
    result.textContent = '…';
    for (var i = 0; i < COUNT; i += 1) {
      send('/bytes/1000?' + i, done);
    }
  }

  function send(url, done) {
    var request = new XMLHttpRequest();
    request.open('GET', url);
    request.onload = function () { done(request.status === 200); };
    request.onerror = function () { done(false); };
    request.send();
  }

  button.addEventListener('click', run);
}());
