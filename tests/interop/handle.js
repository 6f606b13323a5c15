// Makes the agent of node-spdy 4.0.2 send request bodies on node 20.
//
// Below its sockets is handle-thing 2.0.1, which node uses like one of its own handles. Since node
// 11 a handle reports in a field that all handles share whether a write is still under way.
// handle-thing never sets this field. So node reads the value of the last write of the TLS
// connection, and may wait for ever for a write that has ended; then the request never ends. In
// addition, handle-thing's `writev` never reports its end.
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
