// Runs the cases of @kubernetes/client-node against the example kubelet: node clients.mjs URL
// FOLDER
//
// Prints a line for each case: PASS, FAIL with the reason, or FLAW if a fault of the library itself
// was seen, and nothing else was wrong. The exit status is 0 only if no case has failed.
//
// The library is found in the folder that MODULES names, and PATH_NAME is printed after its name.
//
// With the words hang PIDFILE it runs a command that never ends, for a case that kills it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { PassThrough, Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRequire } from 'node:module';
import { gunzipSync } from 'node:zlib';

// The library is installed in another folder.
const require = createRequire(`${process.env.MODULES}/`);
const { Attach, Cp, Exec, KubeConfig, PortForward } = await import(
    require.resolve('@kubernetes/client-node')
);
const { version } = JSON.parse(
    readFileSync(`${process.env.MODULES}/node_modules/@kubernetes/client-node/package.json`, 'utf8'),
);
const name = `client-node ${version}${process.env.PATH_NAME ?? ''}`;
// Up to 0.22 the library closes the WebSocket at the end of the input, also over v5. Then neither
// an outcome nor the rest of the output can arrive.
const closesAtEnd = version.startsWith('0.');

const [url, folder, mode, pidFile] = process.argv.slice(2);
const LIMIT = 60_000;
const MIB = 1024 * 1024;
const FORWARDED = Number(process.env.FORWARDED ?? 64) * MIB;

const config = new KubeConfig();
config.loadFromOptions({
    clusters: [{ name: 'local', server: url, skipTLSVerify: true }],
    users: [{ name: 'nobody' }],
    contexts: [{ name: 'local', cluster: 'local', user: 'nobody' }],
    currentContext: 'local',
});

/** A fault of the library itself, which is expected of it. */
class Flaw extends Error {}

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

async function run(command, stdin = null, tty = false, out = new Sink(), pod = 'demo', container = 'demo') {
    const err = new Sink();
    const status = await new Promise((resolve, reject) => {
        const exec = new Exec(config);
        exec.exec('default', pod, container, command, out, tty ? null : err, stdin, tty, resolve).then(
            (socket) => socket.addEventListener('close', () => setTimeout(reject, 1000, new Error('no status'))),
            reject,
        );
    });
    return { out: out.bytes, err: err.bytes, code: codeOf(status), message: status.message };
}

/** Whether the second folder has the files of the first. */
function same(one, other) {
    const has = (file) =>
        existsSync(`${other}/${file}`) && readFileSync(`${one}/${file}`).equals(readFileSync(`${other}/${file}`));
    return readdirSync(one).every(has);
}

async function until(isSo) {
    while (!(await isSo())) await sleep(50);
}

const digestOf = (bytes) => createHash('sha256').update(bytes).digest('hex');

async function forward(port) {
    const [out, err, input] = [new Sink(), new Sink(), new PassThrough()];
    const socket = await new PortForward(config).portForward('default', 'demo', [port], out, err, input);
    return { out, err, input, socket };
}

async function serve(handler) {
    const server = net.createServer((socket) => handler(socket.on('error', () => {})));
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    return server;
}

const echoServer = () => serve((socket) => socket.pipe(socket));

async function talk(port, number) {
    const { out, err, input, socket } = await forward(port);
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
        if (closesAtEnd) {
            // The command still gets the whole input, and does its work.
            const file = `${folder}/input`;
            const script = `sleep 1; cat >${file}.new; mv ${file}.new ${file}`;
            await assert.rejects(run(['sh', '-c', script], Readable.from([content])), /no status/);
            await until(() => existsSync(file));
            assert.equal(digestOf(readFileSync(file)), digestOf(content));
            throw new Flaw('the library closes the connection at the end of the input, and gets no outcome');
        }
        const { out, code } = await run(['sha256sum'], Readable.from([content]));
        assert.deepEqual([out.toString().split(' ')[0], code], [digestOf(content), 0]);
    },
    async much_output() {
        const script = `f=$(mktemp); head -c ${10 * MIB} /dev/urandom >$f; cat $f; sha256sum <$f >&2; rm $f`;
        const { out, err, code, message } = await run(['sh', '-c', script]);
        assert.deepEqual([out.length, code], [10 * MIB, 0], message);
        assert.equal(digestOf(out), err.toString().split(' ')[0]);
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
        const all = ['attached\nhello\n', 'attached-err\n'];
        if (closesAtEnd) {
            input.write('hello\n');
            await until(() => out.bytes.toString() === all[0] && err.bytes.toString() === all[1]);
        }
        input.end(closesAtEnd ? '' : 'hello\n');
        await closed;
        assert.deepEqual([out.bytes.toString(), err.bytes.toString()], all);
    },
    async no_such_pod() {
        await assert.rejects(run(['true'], null, false, new Sink(), 'nobody'), { message: /404/ });
    },
    async no_such_container() {
        await assert.rejects(run(['true'], null, false, new Sink(), 'demo', 'nothing'), { message: /400/ });
    },
    async no_such_command() {
        const { message } = await run(['/no/such/command']);
        assert.match(message, /error executing command in container/);
    },
    async cp_to_the_pod() {
        const [there, arrived] = [`${folder}/there`, `${folder}/arrived`];
        for (const made of [there, arrived]) mkdirSync(made);
        for (let number = 0; number < 100; number += 1) writeFileSync(`${there}/${number}`, randomBytes(10_000));
        const cp = new Cp(config);
        const copied = closesAtEnd
            ? cp.cpToPod('default', 'demo', 'demo', '.', arrived, there)
            : cp.cpToPod('default', 'demo', 'demo', there, arrived);
        copied.catch(() => {});
        // The call does not tell when all is done: 1.4 does not wait, and 0.22 gets no outcome.
        await until(() => same(there, arrived));
        throw new Flaw('everything arrives, but the library does not tell when');
    },
    async cp_from_the_pod() {
        const [there, back] = [`${folder}/there`, `${folder}/back`];
        mkdirSync(back);
        const failed = new Promise((resolve) => process.once('uncaughtException', resolve));
        const copied = new Cp(config).cpFromPod('default', 'demo', 'demo', '.', back, there);
        if (closesAtEnd) {
            // It reads the archive from a file that might not be written yet.
            const outcome = await copied.then(() => '', (error) => error.code);
            if (outcome === 'Z_BUF_ERROR') throw new Flaw('the library does not wait for its own file');
            assert.equal(outcome, '');
            assert(same(there, back));
            return;
        }
        await copied;
        // It asks for an archive with compression, and reads it as one without.
        assert.match((await failed).message, /Invalid tar header/);
        const { out } = await run(['tar', 'zcf', '-', '-C', there, '.']);
        gunzipSync(out);
        throw new Flaw('the library does not decompress what it has asked for');
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
    async forward_much() {
        const content = randomBytes(FORWARDED);
        const source = await serve((socket) => socket.end(content));
        const down = await forward(source.address().port);
        let received = 0;
        down.out.on('piece', () => (received = down.out.chunks.reduce((sum, chunk) => sum + chunk.length, 0)));
        await until(() => received === content.length);
        assert.equal(digestOf(down.out.bytes), digestOf(content));
        down.socket.close();
        source.close();
        const sink = await serve((socket) => {
            const [hash, size] = [createHash('sha256'), { left: content.length }];
            socket.on('data', (piece) => {
                hash.update(piece);
                size.left -= piece.length;
                if (size.left === 0) socket.end(hash.digest('hex'));
            });
        });
        const up = await forward(sink.address().port);
        for (let start = 0; start < content.length; start += MIB) {
            up.input.write(content.subarray(start, start + MIB));
        }
        await until(() => up.out.bytes.length > 0);
        assert.equal(up.out.bytes.toString(), digestOf(content));
        up.socket.close();
        sink.close();
    },
    async forward_to_a_closed_port() {
        const server = await echoServer();
        const port = server.address().port;
        await new Promise((resolve) => server.close(resolve));
        const { err, socket } = await forward(port);
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
for (const [title, test] of Object.entries(cases)) {
    let outcome = 'PASS';
    let why = '';
    const limit = sleep(LIMIT).then(() => Promise.reject(new Error('it hangs')));
    limit.catch(() => {});
    try {
        await Promise.race([test(), limit]);
    } catch (error) {
        outcome = error instanceof Flaw ? 'FLAW' : 'FAIL';
        failed ||= outcome === 'FAIL';
        why = `: ${String(error?.message).split('\n')[0]}`;
        console.error(error);
    }
    console.log(`${outcome} ${name}: ${title.replaceAll('_', ' ')}${why}`);
}
process.exit(failed ? 1 : 0);
