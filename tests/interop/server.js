// A server of node-spdy, in plain text, for our client to ask:
//
//     node server.js 3.1
//
// It speaks that version and prints `port N`. Each answer tells what has reached it: the line `METHOD PATH`, the fields
// as `name: value`, one a line, and the SHA-256 of the body. It ends with its standard input.
'use strict'

// node-spdy uses insides of node that have another interface today. Nothing of that is news here.
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
