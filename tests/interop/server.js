// A plaintext server of node-spdy, against which our client is tested:
//
//     node server.js 3.1
//
// It speaks this version and prints `port N`. Each answer reports what arrived: the line `METHOD
// PATH`, one line `name: value` for each field, and the SHA-256 of the body. It ends when its
// standard input ends.
'use strict'

// node-spdy uses internals of node that have changed. The warnings about that are not interesting
// here.
process.noDeprecation = true

const crypto = require('node:crypto')
const net = require('node:net')

const transport = require('spdy-transport')

function answer (stream) {
  const digest = crypto.createHash('sha256')
  stream.on('error', (error) => console.error(`stream ${stream.id}: ${error.message}`))
  stream.on('data', (bytes) => digest.update(bytes))
  stream.on('end', () => {
    const fields = Object.entries(stream.headers).map(([name, value]) => `${name}: ${value}\n`)
    stream.respond(200, { 'content-type': 'text/plain' })
    stream.end(`${stream.method} ${stream.path}\n${fields.join('')}body: ${digest.digest('hex')}\n`)
  })
}

const server = net.createServer((socket) => {
  const connection = transport.connection.create(socket, { protocol: 'spdy', isServer: true })
  connection.on('error', (error) => {
    console.error(`session: ${error.message}`)
    socket.destroy()
  })
  connection.on('stream', answer)
  connection.start(Number(process.argv[2]))
})
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`))
process.stdin.on('end', () => process.exit()).resume()
