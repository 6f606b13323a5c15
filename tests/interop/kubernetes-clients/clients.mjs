// Runs the cases of @kubernetes/client-node against the example kubelet: node clients.mjs URL
// FOLDER
//
// Prints a line for each case: PASS, or FAIL with the reason. The exit status is 0 only if no case
// has failed.
//
// With the words hang PIDFILE it runs a command that never ends, for a case that kills it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { PassThrough, Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRequire } from 'node:module';

// The library is installed in another folder.
const require = createRequire(`${process.env.MODULES}/`);
const { Attach, Exec, KubeConfig, PortForward } = await import(
    require.resolve('@kubernetes/client-node')
);

const [url, folder, mode, pidFile] = process.argv.slice(2);
const LIMIT = 60_000;
const MIB = 1024 * 1024;

const config = new KubeConfig();
config.loadFromOptions({
    clusters: [{ name: 'local', server: url, skipTLSVerify: true }],
    users: [{ name: 'nobody' }],
    contexts: [{ name: 'local', cluster: 'local', user: 'nobody' }],
    currentContext: 'local',
});

/** What is written to it. */
class Sink extends Writable {
    chunks = [];
    _write(chunk, _encoding, done) {
        this.chunks.push(chunk);
        this.emit('piece');
        done();
    }
    get bytes() {
        return Buffer.concat(this.chunks);
    }
}

/** The code in a status. */
function codeOf(status) {
    if (status.status === 'Success') return 0;
    const causes = status.details?.causes ?? [];
    return Number(causes.find((cause) => cause.reason === 'ExitCode')?.message);
}

async function run(command, stdin = null, tty = false, out = new Sink()) {
    const err = new Sink();
    const status = await new Promise((resolve, reject) => {
        const exec = new Exec(config);
        exec.exec('default', 'demo', 'demo', command, out, tty ? null : err, stdin, tty, resolve).then(
            (socket) => socket.addEventListener('close', () => setTimeout(reject, 1000, new Error('no status'))),
            reject,
        );
    });
    return { out: out.bytes, err: err.bytes, code: codeOf(status) };
}

async function echoServer() {
    const server = net.createServer((socket) => socket.on('error', () => {}).pipe(socket));
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    return server;
}

async function talk(port, number) {
    const [out, err, input] = [new Sink(), new Sink(), new PassThrough()];
    const socket = await new PortForward(config).portForward('default', 'demo', [port], out, err, input);
    const content = Buffer.alloc(200_000, number);
    input.write(content);
    while (out.bytes.length < content.length) {
        await sleep(20);
        assert.equal(err.bytes.toString(), '');
    }
    assert(out.bytes.equals(content), 'other bytes come back');
    socket.close();
}

const cases = {
    async echo() {
        const { out, err, code } = await run(['echo', 'hello']);
        assert.deepEqual([out.toString(), err.toString(), code], ['hello\n', '', 0]);
    },
    async exit_codes_0_1_137() {
        for (const [script, code] of [['exit 0', 0], ['exit 1', 1], ['kill -KILL $$', 137]]) {
            assert.equal((await run(['sh', '-c', script])).code, code);
        }
    },
    async input_to_its_end() {
        const content = randomBytes(3 * MIB);
        const { out, code } = await run(['sha256sum'], Readable.from([content]));
        const digest = createHash('sha256').update(content).digest('hex');
        assert.deepEqual([out.toString().split(' ')[0], code], [digest, 0]);
    },
    async much_output() {
        const script = `f=$(mktemp); head -c ${10 * MIB} /dev/urandom >$f; cat $f; sha256sum <$f >&2; rm $f`;
        const { out, err, code } = await run(['sh', '-c', script]);
        assert.deepEqual([out.length, code], [10 * MIB, 0]);
        const digest = createHash('sha256').update(out).digest('hex');
        assert.equal(digest, err.toString().split(' ')[0]);
    },
    async errors_are_apart() {
        const { out, err, code } = await run(['sh', '-c', 'echo out; echo err >&2; exit 3']);
        assert.deepEqual([out.toString(), err.toString(), code], ['out\n', 'err\n', 3]);
    },
    async a_terminal_has_its_size_and_is_resized() {
        const out = new Sink();
        [out.columns, out.rows] = [111, 33];
        out.once('piece', () => {
            [out.columns, out.rows] = [122, 44];
            out.emit('resize');
        });
        const script = "trap 'stty size; exit 5' WINCH; stty size; for i in $(seq 40); do sleep 0.5; done";
        const done = await run(['sh', '-c', script], new PassThrough(), true, out);
        assert.deepEqual(done.out.toString().split('\r\n'), ['33 111', '44 122', '']);
        assert.equal(done.code, 5);
    },
    async attach() {
        const [out, err, input] = [new Sink(), new Sink(), new PassThrough()];
        const attach = new Attach(config);
        const socket = await attach.attach('default', 'demo', 'demo', out, err, input, false);
        const closed = new Promise((resolve) => socket.addEventListener('close', resolve));
        input.end('hello\n');
        await closed;
        assert.deepEqual([out.bytes.toString(), err.bytes.toString()], ['attached\nhello\n', 'attached-err\n']);
    },
    async forward_one() {
        const server = await echoServer();
        await talk(server.address().port, 1);
        server.close();
    },
    async forward_20_at_once() {
        const server = await echoServer();
        const numbers = Array.from({ length: 20 }, (_, number) => number);
        await Promise.all(numbers.map((number) => talk(server.address().port, number)));
        server.close();
    },
    async forward_to_a_closed_port() {
        const server = await echoServer();
        const port = server.address().port;
        await new Promise((resolve) => server.close(resolve));
        const [out, err] = [new Sink(), new Sink()];
        const forward = new PortForward(config);
        const socket = await forward.portForward('default', 'demo', [port], out, err, new PassThrough());
        await new Promise((resolve) => socket.addEventListener('close', resolve));
        assert.match(err.bytes.toString(), /error forwarding port/);
    },
    async killed_client_ends_the_command() {
        const file = `${folder}/pid-node`;
        const client = spawn(process.execPath, [process.argv[1], url, folder, 'hang', file]);
        while (!existsSync(file)) await sleep(100);
        client.kill('SIGKILL');
        const pid = Number(readFileSync(file, 'utf8'));
        while (existsSync(`/proc/${pid}`)) await sleep(200);
    },
};

if (mode === 'hang') {
    await run(['sh', '-c', `echo $$ >${pidFile}.new; mv ${pidFile}.new ${pidFile}; sleep 600`]);
}

let failed = false;
for (const [name, test] of Object.entries(cases)) {
    let line = 'PASS';
    const limit = sleep(LIMIT).then(() => Promise.reject(new Error('it hangs')));
    limit.catch(() => {});
    try {
        await Promise.race([test(), limit]);
    } catch (error) {
        failed = true;
        line = 'FAIL';
        console.error(error);
        console.log(`FAIL client-node: ${name.replaceAll('_', ' ')}: ${String(error?.message).split('\n')[0]}`);
        continue;
    }
    console.log(`${line} client-node: ${name.replaceAll('_', ' ')}`);
}
process.exit(failed ? 1 : 0);
