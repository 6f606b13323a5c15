// The side of moby/spdystream in the tests beside this folder:
//
//	go-peer serve               listens, prints `port N`, and answers on every session
//	go-peer connect ADDRESS     answers on session after session, until the peer stops listening
//	go-peer check ADDRESS       makes the checks, as the client of a server that answers
//	go-peer check listen        the same as a server; prints `port N` first
//	go-peer hang ADDRESS        sends on many streams without reading, prints `hanging`, and waits
//
// The field `do` of a stream tells the answering side what to do with it: see answer. `spdystream`,
// a program of spdy-tests, does the same with our library, so each side runs its checks against the
// other.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/moby/spdystream"
)

func main() {
	arguments := os.Args[1:]
	switch {
	case len(arguments) == 1 && arguments[0] == "serve":
		listener := listen()
		for {
			begin(must(listener.Accept()), true)
		}
	case len(arguments) == 2 && arguments[0] == "connect":
		for {
			conn, err := net.Dial("tcp", arguments[1])
			if err != nil {
				return
			}
			<-begin(conn, false).done
		}
	case len(arguments) == 2 && arguments[0] == "check" && arguments[1] == "listen":
		listener := listen()
		check("server", func() *session { return begin(must(listener.Accept()), true) })
	case len(arguments) == 2 && arguments[0] == "check":
		check("client", func() *session { return begin(must(net.Dial("tcp", arguments[1])), false) })
	case len(arguments) == 2 && arguments[0] == "hang":
		hang(begin(must(net.Dial("tcp", arguments[1])), false))
	default:
		fmt.Fprintln(os.Stderr, "usage: go-peer serve | connect ADDRESS | check ADDRESS|listen | hang ADDRESS")
		os.Exit(2)
	}
}

func listen() net.Listener {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	fmt.Printf("port %d\n", listener.Addr().(*net.TCPAddr).Port)
	return listener
}

// session is a connection of spdystream whose incoming streams are answered.
type session struct {
	*spdystream.Connection
	tap *tap
	// Closed when nothing is read any more.
	done chan struct{}
}

func begin(conn net.Conn, isServer bool) *session {
	tap := &tap{Conn: conn, resets: map[uint32]uint32{}}
	s := &session{must(spdystream.NewConnection(tap, isServer)), tap, make(chan struct{})}
	s.SetCloseTimeout(10 * time.Second)
	go func() {
		s.Serve(s.accept)
		close(s.done)
	}()
	return s
}

// accept answers a stream before its data is handled, because spdystream drops data that arrives
// before the reply.
func (s *session) accept(stream *spdystream.Stream) {
	if stream.Headers().Get("do") == "refuse" {
		_ = stream.Refuse()
		return
	}
	reply := http.Header{}
	if asked := stream.Headers()["Ask"]; asked != nil {
		reply["answer"] = asked
	}
	if stream.SendReply(reply, false) == nil {
		go s.answer(stream)
	}
}

func (s *session) answer(stream *spdystream.Stream) {
	size, _ := strconv.Atoi(stream.Headers().Get("bytes"))
	switch what := stream.Headers().Get("do"); what {
	case "echo": // the bytes go back
		_, _ = io.Copy(stream, stream)
	case "source": // that many bytes
		_, _ = io.Copy(stream, pattern(size))
	case "sink": // reads all, and tells what it was
		fmt.Fprint(stream, digest(stream))
	case "slow": // the same, but late
		time.Sleep(2 * time.Second)
		fmt.Fprint(stream, digest(stream))
	case "headers": // a header block comes back
		if headers, err := stream.ReceiveHeader(); err == nil {
			_ = stream.SendHeader(headers, false)
		}
	case "half": // finishes, and reads on
		_ = stream.Close()
		notes <- digest(stream)
		return
	case "reset": // resets when bytes have come
		_, _ = stream.ReadData()
		_ = stream.Reset()
		return
	case "watch": // waits for a reset
		_, _ = io.Copy(io.Discard, stream)
		notes <- s.tap.reset(stream.Identifier())
		return
	case "recall": // tells what was noted
		fmt.Fprint(stream, <-notes)
	case "call": // opens a stream to the side that asks
		fmt.Fprint(stream, outcome(s.echo(100_000)))
	case "ping":
		_, err := s.Ping()
		fmt.Fprint(stream, outcome(err))
	case "bye": // sends that many bytes, and ends the session
		_, _ = io.Copy(stream, pattern(size))
		_ = stream.Close()
		_ = s.Close()
		return
	default:
		fmt.Fprintf(os.Stderr, "no answer to %q\n", what)
		_ = stream.Reset()
		return
	}
	_ = stream.Close()
}

// notes holds what streams of answers have seen and could not report themselves.
var notes = make(chan string, 100)

// hang fills all buffers between the two sides.
func hang(s *session) {
	// A stream that is created later might wait behind what the others send, until the server gives
	// up.
	var streams [10]io.Writer
	for i := range streams {
		streams[i] = must(s.CreateStream(http.Header{"do": {"echo"}}, nil, false))
	}
	for _, stream := range streams {
		go io.Copy(stream, pattern(1<<40))
	}
	time.Sleep(time.Second)
	fmt.Println("hanging")
	select {}
}

func outcome(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
