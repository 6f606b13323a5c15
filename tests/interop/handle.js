// Makes the agent of node-spdy 4.0.2 send request bodies on node 20.
//
// Below its sockets stands handle-thing 2.0.1, which node drives as if it were a handle of its own. Since node 11 a
// handle says through a field shared by all handles whether a write is still under way. handle-thing never sets it, so
// node reads what the last write of the TLS connection left there, and may wait for ever for a write that has ended:
// the request then never ends. Apart from that, handle-thing's `writev` never reports its end.
'use strict'

const Handle = require('handle-thing')

const { streamBaseState, kLastWriteWasAsync } = process.binding('stream_wrap')
const { writeEnc } = Handle.prototype

Handle.prototype.writeEnc = function (...args) {
  const status = writeEnc.apply(this, args)
  streamBaseState[kLastWriteWasAsync] = 1
  return status
}

Handle.prototype.writev = function (req, chunks, allBuffers) {
  const buffers = []
  for (let i = 0; i < chunks.length; i += allBuffers ? 1 : 2) {
    buffers.push(Buffer.from(chunks[i], allBuffers ? undefined : chunks[i + 1]))
  }
  return this.writeBuffer(req, Buffer.concat(buffers))
}
