// The rival of Docker and Kubernetes: HTTP over moby/spdystream, which knows no windows. It prints
// the address that it listens on, and runs until it is killed.
//
//	GET /hello     100 bytes
//	GET /bytes/N   N bytes
//	POST /sink     the number of bytes of the body
//	POST /echo     the body
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/moby/spdystream"
)

var hello = []byte(strings.Repeat("x", 100))
var block = make([]byte, 64<<10)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		session, err := spdystream.NewConnection(conn, true)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		go session.Serve(accept)
	}
}

// accept replies at once, because spdystream drops data that arrives before the reply.
func accept(stream *spdystream.Stream) {
	reply := http.Header{
		":status":       {"200"},
		":version":      {"HTTP/1.1"},
		"content-type":  {"text/plain"},
		"cache-control": {"no-cache"},
	}
	if stream.SendReply(reply, false) == nil {
		go answer(stream, stream.Headers().Get(":path"))
	}
}

func answer(stream *spdystream.Stream, path string) {
	switch {
	case path == "/hello":
		_, _ = stream.Write(hello)
	case path == "/echo":
		_, _ = io.Copy(stream, stream)
	case path == "/sink":
		bytes, _ := io.Copy(io.Discard, stream)
		fmt.Fprint(stream, bytes)
	default:
		left, _ := strconv.Atoi(strings.TrimPrefix(path, "/bytes/"))
		for left > 0 {
			length := min(left, len(block))
			if _, err := stream.Write(block[:length]); err != nil {
				return
			}
			left -= length
		}
	}
	_ = stream.Close()
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}
