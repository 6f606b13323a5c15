package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/spdystream"
)

const mib = 1 << 20

var checks = []struct {
	name string
	run  func(s *session) (string, error)
}{
	{"replies and their fields", fields},
	{"HEADERS there and back", headers},
	{"64 MiB received", func(s *session) (string, error) { return s.source(64*mib, "source") }},
	{"64 MiB sent", func(s *session) (string, error) { return s.sink(64*mib, "sink") }},
	{"64 MiB there and back", func(s *session) (string, error) { return "", s.echo(64 * mib) }},
	{"100 streams at once", hundred},
	{"streams of the other side", func(s *session) (string, error) { return "", s.told(ask("call"), "ok") }},
	{"finished here, received after", func(s *session) (string, error) { return s.source(mib, "source") }},
	{"finished there, sent after", half},
	{"refused", refused},
	{"reset there", resetThere},
	{"reset here", resetHere},
	{"pings from both", pings},
	{"a reader that is slow", func(s *session) (string, error) { return s.sink(64*mib, "slow") }},
	{"end of the session by this side", endHere},
	{"end of the session by the other side", endThere},
}

// check runs all checks, each on its own session, and prints a line for each.
func check(role string, next func() *session) {
	failed := false
	for _, check := range checks {
		start := time.Now()
		note, err := within(func() (string, error) {
			s := next()
			defer s.tap.Close()
			note, err := check.run(s)
			if err == nil && s.tap.ended() == "" {
				err = s.end()
			}
			return note, err
		})
		verdict := "PASS"
		if err != nil {
			verdict, note, failed = "FAIL", err.Error(), true
		}
		if note != "" {
			note = ": " + note
		}
		fmt.Printf("%s  spdystream as %s: %s%s (%.2f s)\n", verdict, role, check.name, note, time.Since(start).Seconds())
	}
	if failed {
		os.Exit(1)
	}
}

func within(run func() (string, error)) (note string, err error) {
	done := make(chan struct{})
	go func() {
		note, err = run()
		close(done)
	}()
	select {
	case <-done:
		return note, err
	case <-time.After(60 * time.Second):
		return "", errors.New("not done within 60 s")
	}
}

// end is an orderly end: GOAWAY, and the end of the connection when all streams have ended.
func (s *session) end() error {
	if err := s.CloseWait(); err != nil {
		return err
	}
	<-s.done
	return nil
}

func ask(what string, more ...string) http.Header {
	headers := http.Header{"do": {what}}
	for i := 0; i < len(more); i += 2 {
		headers.Add(more[i], more[i+1])
	}
	return headers
}

// open opens a stream and waits for the reply.
func (s *session) open(headers http.Header, fin bool) (*spdystream.Stream, error) {
	stream, err := s.CreateStream(headers, nil, fin)
	if err != nil {
		return nil, err
	}
	return stream, stream.WaitTimeout(30 * time.Second)
}

// told expects a text on a stream on which this side sends nothing.
func (s *session) told(headers http.Header, expected string) error {
	stream, err := s.open(headers, true)
	if err != nil {
		return err
	}
	return expect(expected, string(must(io.ReadAll(stream))))
}

func expect(expected, actual string) error {
	if actual != expected {
		return fmt.Errorf("%q where %q was expected", actual, expected)
	}
	return nil
}

// fields sends a field with two values and expects them in the reply. spdystream does not return
// the headers of a reply, so this side can only see that there is one. The other side compares the
// headers.
func fields(s *session) (string, error) {
	stream, err := s.open(ask("echo", "ask", "one", "ask", "two"), false)
	if err != nil {
		return "", err
	}
	if err := stream.Close(); err != nil {
		return "", err
	}
	return "", expect("", string(must(io.ReadAll(stream))))
}

func headers(s *session) (string, error) {
	stream, err := s.open(ask("headers"), false)
	if err != nil {
		return "", err
	}
	if err := stream.SendHeader(http.Header{"x-late": {"one", "two"}, "x-other": {"three"}}, false); err != nil {
		return "", err
	}
	received, err := stream.ReceiveHeader()
	if err != nil {
		return "", err
	}
	all := strings.Join(received["X-Late"], ",") + ";" + strings.Join(received["X-Other"], ",")
	_ = stream.Close()
	return "", expect("one,two;three", all)
}

func (s *session) source(size int, what string) (string, error) {
	stream, err := s.open(ask(what, "bytes", strconv.Itoa(size)), true)
	if err != nil {
		return "", err
	}
	return "", expect(digest(pattern(size)), digest(stream))
}

func (s *session) sink(size int, what string) (string, error) {
	stream, err := s.open(ask(what), false)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(stream, pattern(size)); err != nil {
		return "", err
	}
	if err := stream.Close(); err != nil {
		return "", err
	}
	return "", expect(digest(pattern(size)), string(must(io.ReadAll(stream))))
}

// echo sends bytes and compares what comes back.
func (s *session) echo(size int) error {
	stream, err := s.open(ask("echo"), false)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(stream, pattern(size))
		if err == nil {
			err = stream.Close()
		}
		sent <- err
	}()
	received := digest(stream)
	if err := <-sent; err != nil {
		return err
	}
	return expect(digest(pattern(size)), received)
}

func hundred(s *session) (string, error) {
	ended := make(chan error, 100)
	for i := 0; i < 100; i++ {
		go func() { ended <- s.echo(200_000) }()
	}
	for i := 0; i < 100; i++ {
		if err := <-ended; err != nil {
			return "", err
		}
	}
	return "200000 bytes there and back on each", nil
}

// half sends on a stream that the other side has finished.
func half(s *session) (string, error) {
	stream, err := s.open(ask("half"), false)
	if err != nil {
		return "", err
	}
	if err := expect("", string(must(io.ReadAll(stream)))); err != nil {
		return "", err
	}
	if _, err := io.Copy(stream, pattern(mib)); err != nil {
		return "", err
	}
	if err := stream.Close(); err != nil {
		return "", err
	}
	return "", s.told(ask("recall"), digest(pattern(mib)))
}

func refused(s *session) (string, error) {
	stream, err := s.open(ask("refuse"), false)
	if err != spdystream.ErrReset {
		return "", fmt.Errorf("%v where a reset was expected", err)
	}
	told := s.tap.reset(stream.Identifier())
	return told, expect("reset with 3", told)
}

func resetThere(s *session) (string, error) {
	stream, err := s.open(ask("reset"), false)
	if err != nil {
		return "", err
	}
	if _, err := stream.Write(bytes.Repeat([]byte("x"), 100)); err != nil {
		return "", err
	}
	if rest := must(io.ReadAll(stream)); len(rest) > 0 {
		return "", errors.New("bytes before the reset")
	}
	// INTERNAL_ERROR
	told := s.tap.reset(stream.Identifier())
	return told, expect("reset with 6", told)
}

func resetHere(s *session) (string, error) {
	stream, err := s.open(ask("watch"), false)
	if err != nil {
		return "", err
	}
	if _, err := stream.Write(bytes.Repeat([]byte("x"), 100)); err != nil {
		return "", err
	}
	if err := stream.Reset(); err != nil {
		return "", err
	}
	// CANCEL is the only status with which spdystream resets streams.
	return "with 5", s.told(ask("recall"), "reset with 5")
}

func pings(s *session) (string, error) {
	time, err := s.Ping()
	if err != nil {
		return "", err
	}
	return time.String(), s.told(ask("ping"), "ok")
}

// endHere ends the session while the answers of ten streams are under way.
func endHere(s *session) (string, error) {
	ended := make(chan error, 10)
	for i := 0; i < 10; i++ {
		stream, err := s.open(ask("source", "bytes", strconv.Itoa(mib)), true)
		if err != nil {
			return "", err
		}
		go func() { ended <- expect(digest(pattern(mib)), digest(stream)) }()
	}
	if err := s.end(); err != nil {
		return "", err
	}
	for i := 0; i < 10; i++ {
		if err := <-ended; err != nil {
			return "", err
		}
	}
	return "10 answers of 1 MiB under way have arrived whole", nil
}

// endThere receives what the other side sends before it ends the session.
func endThere(s *session) (string, error) {
	stream, err := s.open(ask("bye", "bytes", strconv.Itoa(16*mib)), true)
	if err != nil {
		return "", err
	}
	if err := expect(digest(pattern(16*mib)), digest(stream)); err != nil {
		return "", err
	}
	<-s.done
	told := s.tap.ended()
	if !strings.HasSuffix(told, "status 0") {
		return "", fmt.Errorf("%q where GOAWAY with status 0 was expected", told)
	}
	return "16 MiB, then GOAWAY with " + told, nil
}
