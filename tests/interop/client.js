// Runs all checks of the interoperability test against a spdy-server, as node-spdy.
//
//     node client.js --version 3.1 --plain HOST:PORT
//     node client.js --version 3.1 --tls HOST:PORT --fingerprint AA:BB:…
//     node client.js --version 3.1 --plain HOST:PORT --record FILE
//
// node-spdy consists of two packages, and both are tested. `spdy-transport` has the sessions and
// streams; the checks call it directly. `spdy` has an agent for node's http and https modules; the
// checks use these modules.
//
// Each check has its own session and prints one line, which begins with PASS or FAIL. With --record
// there are no checks. Then the bytes of one session are written to FILE: a line for each packet,
// with `O` (sent) or `I` (received) and the bytes in hexadecimal, from which text2pcap makes a
// capture. The name and the length of each received frame are printed.
'use strict'

// node-spdy uses internals of node that have changed. The warnings about that are not interesting
// here.
process.noDeprecation = true

const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const https = require('node:https')
const net = require('node:net')
const tls = require('node:tls')
const { parseArgs } = require('node:util')

require('./handle')
const spdy = require('spdy')
const transport = require('spdy-transport')

/** How long a check may take, in milliseconds. */
const TIMEOUT = 20_000

/** The largest packet of a recording, in bytes: it has to fit IPv4. */
const PACKET = 16384

/** The fields of every request, unless it has others. */
const FIELDS = { 'user-agent': 'node-spdy', accept: '*/*', 'x-multi': ['alpha', 'beta'] }

/** Fields as some pages of the web make browsers send: 18 of them, of 74,000 bytes together with their names. */
const LARGE_FIELDS = Object.fromEntries(Array.from({ length: 18 }, (_, i) => {
  const name = i === 0 ? 'cookie' : `x-large-${String(i).padStart(2, '0')}`
  return [name, printable((i < 2 ? 4112 : 4111) - name.length)]
}))

/** What both packages are asked to do: each function gets a session and returns the figures for its line. */
const CHECKS = {
  async hello (session) {
    const response = await session.request('GET', '/hello')
    assert.equal(response.status, 200)
    assert.equal(response.body.length, 100)
    return '100 bytes'
  },

  async bytes (session) {
    const response = await session.request('GET', '/bytes/16777216')
    assert.equal(response.status, 200)
    assert.ok(response.body.equals(pattern(16777216)), `${response.body.length} bytes, not those expected`)
    const digest = crypto.createHash('sha256').update(response.body).digest('hex')
    assert.equal(response.headers['x-sha256'], digest)
    return '16777216 bytes, SHA-256 as announced'
  },

  async echo (session) {
    const body = crypto.randomBytes(1 << 20)
    const response = await session.request('POST', '/echo', { body })
    assert.equal(response.status, 200)
    assert.ok(body.equals(response.body), `${response.body.length} bytes came back, not the same`)
    return '1048576 bytes there and back'
  },

  async hundred (session) {
    const responses = await Promise.all(
      Array.from({ length: 100 }, (_, i) => session.request('GET', i % 2 ? '/hello' : `/bytes/${i * 100}`)))
    responses.forEach((response, i) => {
      assert.equal(response.status, 200)
      assert.equal(response.body.length, i % 2 ? 100 : i * 100)
    })
    return '100 requests at once on one session'
  },

  async fields (session) {
    const response = await session.request('GET', '/headers')
    assert.equal(response.status, 200)
    const lines = response.body.toString().split('\n')
    for (const line of ['user-agent: node-spdy', 'accept: */*', 'x-multi: alpha', 'x-multi: beta']) {
      assert.ok(lines.includes(line), `no line "${line}"`)
    }
    return 'the fields sent, a line for each value'
  },

  async large (session) {
    const bytes = Object.entries(LARGE_FIELDS).reduce((sum, [name, value]) => sum + name.length + value.length, 0)
    assert.equal(bytes, 74000)
    const expected = Object.entries(LARGE_FIELDS).map(([name, value]) => `${name}: ${value}`)
    // The context of the compression has to outlast them.
    for (const fields of [LARGE_FIELDS, FIELDS, LARGE_FIELDS]) {
      const response = await session.request('GET', '/headers', { fields })
      assert.equal(response.status, 200)
      const lines = response.body.toString('latin1').split('\n')
      if (fields === FIELDS) {
        assert.ok(lines.includes('x-multi: beta'))
        assert.ok(!lines.some((line) => line.startsWith('x-large-')))
        continue
      }
      const arrived = lines.filter((line) => /^(cookie|x-large-\d\d): /.test(line))
      assert.equal(arrived.length, expected.length)
      expected.forEach((line) => assert.ok(arrived.includes(line), `${line.slice(0, 12)} has not arrived as sent`))
    }
    return `${expected.length} fields of ${bytes} bytes, each as sent, twice on a session`
  },

  async missing (session) {
    const response = await session.request('GET', '/nothing/there')
    assert.equal(response.status, 404)
    return 'status 404'
  }
}

/** What only spdy-transport can be asked to do. */
const TRANSPORT_CHECKS = {
  async cookies (session) {
    const response = await session.request('GET', '/cookies')
    assert.equal(response.status, 200)
    assert.equal([].concat(response.headers['set-cookie']).length, 2)
    return '2 set-cookie fields'
  },

  async trailers (session) {
    const response = await session.request('GET', '/trailers')
    assert.equal(response.status, 200)
    const digest = crypto.createHash('sha256').update(response.body).digest('hex')
    assert.equal(response.trailers['x-checksum'], digest)
    return 'x-checksum is the SHA-256 of the body'
  },

  async push (session) {
    const pushes = []
    const take = (stream) => stream.on('pushPromise', (push) => pushes.push(collect(push)))
    const response = await session.request('GET', '/push', { prepare: take })
    assert.equal(response.status, 200)
    assert.equal(pushes.length, 1)
    const { url, status, headers, body } = await pushes[0]
    // SPDY/2 has the whole URL in one field.
    assert.equal(new URL(url, 'https://localhost').pathname, '/pushed.css')
    assert.equal(status, 200)
    assert.match(headers['content-type'], /^text\/css/)
    const asked = await session.request('GET', '/pushed.css')
    assert.ok(body.equals(asked.body), `${body.length} bytes pushed, ${asked.body.length} bytes on request`)
    return '/pushed.css came with the page, as on request'
  },

  async reset (session) {
    await session.requestAndReset('/bytes/16777216')
    const response = await session.request('GET', '/hello')
    assert.equal(response.body.length, 100)
    return 'a download was cancelled and the session went on'
  },

  async ping (session) {
    await new Promise((resolve, reject) => session.connection.ping((error) => error ? reject(error) : resolve()))
    return 'answered'
  }
}

/** A session of spdy-transport, over TCP or TLS. */
class TransportSession {
  static async connect (target, recording) {
    const { host, port } = target
    const socket = target.tls
      ? tls.connect({ host, port, ALPNProtocols: [`spdy/${target.version}`], rejectUnauthorized: false })
      : net.connect({ host, port })
    socket.setNoDelay(true)
    await once(socket, target.tls ? 'secureConnect' : 'connect')
    if (target.tls) {
      verify(socket, target)
    }
    if (recording) {
      tap(socket, recording)
    }
    return new TransportSession(socket, target)
  }

  constructor (socket, target) {
    this.socket = socket
    this.authority = `${target.host}:${target.port}`
    this.broken = new Promise((resolve, reject) => { this.fail = reject })
    this.broken.catch(() => {})
    this.connection = transport.connection.create(socket, { protocol: 'spdy', isServer: false })
    this.connection.on('error', (error) => this.fail(new Error(`session: ${error.message}`)))
    this.connection.on('close', () => this.fail(new Error('the session was closed')))
    this.connection.start(Number(target.version))
  }

  /** `prepare` may add listeners to the stream. */
  request (method, path, { body, fields, prepare = () => {} } = {}) {
    return new Promise((resolve, reject) => {
      const stream = this.open(method, path, reject, fields)
      prepare(stream)
      const response = { status: 0, headers: {}, body: [], trailers: {} }
      stream.on('response', (status, headers) => Object.assign(response, { status, headers }))
      stream.on('headers', (headers) => Object.assign(response.trailers, headers))
      stream.on('data', (chunk) => response.body.push(chunk))
      stream.on('end', () => resolve({ ...response, body: Buffer.concat(response.body) }))
      stream.on('close', (error) => error && reject(error))
      if (body !== undefined) {
        stream.end(body)
      }
    })
  }

  /** Starts a download and cancels it at its first bytes. */
  requestAndReset (path) {
    return new Promise((resolve, reject) => {
      const stream = this.open('GET', path, reject)
      stream.once('data', () => stream.abort(resolve))
    })
  }

  open (method, path, reject, fields = FIELDS) {
    const stream = this.connection.request({ method, path, host: this.authority, headers: fields }, (error) => {
      if (error) {
        reject(error)
      }
    })
    stream.on('error', (error) => reject(new Error(`stream ${stream.id}: ${error.message}`)))
    return stream
  }

  close () {
    this.socket.destroy()
  }
}

/** A session of the agent that `spdy` makes for node's http and https. */
class AgentSession {
  static async connect (target) {
    const { host, port } = target
    const protocol = `spdy/${target.version}`
    const agent = spdy.createAgent({
      host,
      port,
      servername: 'localhost',
      rejectUnauthorized: false,
      spdy: target.tls ? { protocols: [protocol] } : { plain: true, ssl: false, protocol }
    })
    // A body that is sent before there is a session is lost, because the agent accepts it without a
    // stream.
    await once(agent, '_connect')
    if (target.tls) {
      verify(agent._spdyState.socket, target)
    }
    return new AgentSession(agent, target)
  }

  constructor (agent, target) {
    this.agent = agent
    this.target = target
    this.broken = new Promise((resolve, reject) => { this.fail = reject })
    this.broken.catch(() => {})
    agent.on('error', (error) => this.fail(new Error(`agent: ${error.message}`)))
    agent._spdyState.socket.on('close', () => this.fail(new Error('the connection was closed')))
  }

  request (method, path, { body, fields = FIELDS } = {}) {
    return new Promise((resolve, reject) => {
      const { host, port } = this.target
      const options = { host, port, method, path, headers: fields, agent: this.agent }
      const request = (this.target.tls ? https : http).request(options, (response) => {
        const chunks = []
        response.on('data', (chunk) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => resolve({
          status: response.statusCode,
          headers: response.headers,
          body: Buffer.concat(chunks)
        }))
      })
      request.on('error', reject)
      request.end(body)
    })
  }

  close () {
    this.agent._spdyState.socket.destroy()
  }
}

async function main () {
  const { values } = parseArgs({
    options: {
      version: { type: 'string' },
      plain: { type: 'string' },
      tls: { type: 'string' },
      fingerprint: { type: 'string' },
      record: { type: 'string' }
    }
  })
  const address = values.plain ?? values.tls
  const colon = address.lastIndexOf(':')
  const target = {
    version: values.version,
    host: address.slice(0, colon),
    port: Number(address.slice(colon + 1)),
    tls: values.tls !== undefined,
    fingerprint: values.fingerprint
  }
  if (values.record !== undefined) {
    return record(target, values.record)
  }
  const layers = [
    ['transport', TransportSession, { ...CHECKS, ...TRANSPORT_CHECKS }],
    ['agent', AgentSession, CHECKS]
  ]
  for (const [layer, session, checks] of layers) {
    for (const [name, check] of Object.entries(checks)) {
      const version = `spdy/${target.version}`.padEnd(8)
      const label = [version, target.tls ? 'TLS  ' : 'plain', layer.padEnd(9), name.padEnd(8)]
      if (!await run(label.join(' '), target, session, check)) {
        process.exitCode = 1
      }
    }
  }
}

/** Runs one check on a session of its own and prints its line. */
async function run (label, target, kind, check) {
  const start = process.hrtime.bigint()
  let session
  try {
    const figures = await withTimeout((async () => {
      session = await kind.connect(target)
      // When the session ends, everything that waits for an answer gets none.
      return Promise.race([check(session), session.broken])
    })())
    const seconds = Number(process.hrtime.bigint() - start) / 1e9
    console.log(`PASS  ${label} ${figures}, ${seconds.toFixed(2)} s`)
    return true
  } catch (error) {
    console.log(`FAIL  ${label} ${error.message.split('\n').join(' ')}`)
    return false
  } finally {
    session?.close()
  }
}

/** A conversation with every kind of frame that this client can provoke, for a dissector to read. */
async function record (target, path) {
  const recording = []
  const session = await TransportSession.connect(target, recording)
  try {
    await withTimeout(Promise.race([session.broken, (async () => {
      await CHECKS.hello(session)
      await TRANSPORT_CHECKS.cookies(session)
      await TRANSPORT_CHECKS.trailers(session)
      // More than the window of any deployed server, so that it has to send WINDOW_UPDATE.
      await session.request('POST', '/echo', { body: crypto.randomBytes(2 << 20) })
      await session.requestAndReset('/bytes/200000')
      await TRANSPORT_CHECKS.ping(session)
    })()]))
    // GOAWAY, after which the session ends by itself.
    await withTimeout(new Promise((resolve) => session.connection.end(resolve)))
  } finally {
    session.close()
    fs.writeFileSync(path, recording.map(([direction, bytes]) => `${direction} ${bytes.toString('hex')}\n`).join(''))
  }
  const received = recording.filter(([direction]) => direction === 'I').map(([, bytes]) => bytes)
  console.log(frames(Buffer.concat(received)).join('\n'))
}

/** Adds to `recording` everything that passes through a socket that has not been used yet. */
function tap (socket, recording) {
  const add = (direction, bytes) => {
    for (let at = 0; at < bytes.length; at += PACKET) {
      recording.push([direction, bytes.subarray(at, at + PACKET)])
    }
  }
  const write = socket.write
  socket.write = (bytes, ...rest) => {
    add('O', bytes)
    return write.call(socket, bytes, ...rest)
  }
  socket.on('data', (bytes) => add('I', bytes))
}

/** The names and lengths of the frames that `bytes` are made of. The last of them has to be whole. */
function frames (bytes) {
  const names = [
    '', 'SYN_STREAM', 'SYN_REPLY', 'RST_STREAM', 'SETTINGS', '', 'PING', 'GOAWAY', 'HEADERS', 'WINDOW_UPDATE'
  ]
  const found = []
  let at = 0
  while (at < bytes.length) {
    const length = bytes.readUIntBE(at + 5, 3)
    const name = bytes[at] & 0x80 ? names[bytes.readUInt16BE(at + 2)] || 'unknown' : 'DATA'
    found.push(`${name} ${length}`)
    at += 8 + length
  }
  assert.equal(at, bytes.length, 'the last frame received is not whole')
  return found
}

/** What a pushed stream brings. */
function collect (push) {
  return new Promise((resolve, reject) => {
    const pushed = { url: push.path, status: 0, headers: push.headers, body: [] }
    push.on('response', (status) => { pushed.status = status })
    push.on('data', (chunk) => pushed.body.push(chunk))
    push.on('error', reject)
    push.on('end', () => resolve({ ...pushed, body: Buffer.concat(pushed.body) }))
  })
}

/** The bytes of `/bytes/N`. */
function pattern (length) {
  return Buffer.alloc(length, Buffer.from(Array.from({ length: 256 }, (_, i) => (i * 31 + 7) % 256)))
}

/** Bytes that may stand in a field, none of them a space: that could not stand at either end. */
function printable (length) {
  return Array.from(crypto.randomBytes(length), (byte) => String.fromCharCode(0x21 + byte % 0x5e)).join('')
}

/** Checks that the peer is the expected server, and that it chose the offered protocol. */
function verify (socket, target) {
  assert.equal(socket.alpnProtocol, `spdy/${target.version}`)
  assert.equal(socket.getPeerCertificate().fingerprint256, target.fingerprint)
}

async function withTimeout (promise) {
  let timer
  const timeout = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${TIMEOUT / 1000} s`)), TIMEOUT)
  })
  try {
    return await Promise.race([promise, timeout])
  } finally {
    clearTimeout(timer)
  }
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
