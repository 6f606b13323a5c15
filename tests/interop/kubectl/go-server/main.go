// A server of exec and port-forward on moby/spdystream, written like the streaming servers of
// Kubernetes. The kubelet of the examples is compared with it. It answers kubectl for one pod, runs
// commands without a terminal, and checks nothing.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/moby/spdystream"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("kubectl --server http://%s exec demo -- true\n", listener.Addr())
	panic(http.Serve(listener, http.HandlerFunc(answer)))
}

func answer(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/")
	switch {
	case path == "/api":
		reply(w, map[string]any{"kind": "APIVersions", "versions": []string{"v1"}})
	case path == "/apis":
		reply(w, map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": []any{}})
	case path == "/api/v1":
		pods := map[string]any{"name": "pods", "namespaced": true, "kind": "Pod", "verbs": []string{"get"}}
		reply(w, map[string]any{"kind": "APIResourceList", "groupVersion": "v1", "resources": []any{pods}})
	case strings.HasSuffix(path, "/pods/demo"):
		reply(w, map[string]any{
			"kind": "Pod", "apiVersion": "v1",
			"metadata": map[string]any{"name": "demo", "namespace": "default"},
			"spec":     map[string]any{"containers": []any{map[string]any{"name": "demo"}}},
			"status":   map[string]any{"phase": "Running"},
		})
	case strings.HasSuffix(path, "/exec"):
		serveExec(w, r)
	case strings.HasSuffix(path, "/portforward"):
		servePortForward(w, r)
	default:
		http.NotFound(w, r)
	}
}

func reply(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

// upgrade gives the session and its streams, each of which is answered already.
func upgrade(w http.ResponseWriter, r *http.Request, protocol string) (*spdystream.Connection, chan *spdystream.Stream) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "SPDY/3.1") {
		http.Error(w, "only SPDY is served", http.StatusBadRequest)
		return nil, nil
	}
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "SPDY/3.1")
	w.Header().Set("X-Stream-Protocol-Version", protocol)
	w.WriteHeader(http.StatusSwitchingProtocols)
	transport, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	session, err := spdystream.NewConnection(withBuffer{transport, buffered}, true)
	if err != nil {
		panic(err)
	}
	streams := make(chan *spdystream.Stream, 1000)
	go session.Serve(func(stream *spdystream.Stream) {
		if stream.SendReply(http.Header{}, false) == nil {
			streams <- stream
		}
	})
	return session, streams
}

type withBuffer struct {
	net.Conn
	buffered io.Reader
}

func (c withBuffer) Read(buffer []byte) (int, error) { return c.buffered.Read(buffer) }

func serveExec(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	expected := 1
	for _, name := range []string{"stdin", "stdout", "stderr"} {
		if query.Get(name) == "true" {
			expected++
		}
	}
	session, streams := upgrade(w, r, "v4.channel.k8s.io")
	if session == nil {
		return
	}
	defer session.Close()
	byType := map[string]*spdystream.Stream{}
	for len(byType) < expected {
		stream := <-streams
		byType[stream.Headers().Get("streamtype")] = stream
	}
	command := exec.Command(query["command"][0], query["command"][1:]...)
	if stdin := byType["stdin"]; stdin != nil {
		pipe, err := command.StdinPipe()
		if err != nil {
			panic(err)
		}
		go func() {
			_, _ = io.Copy(pipe, stdin)
			_ = pipe.Close()
		}()
	}
	// A stream is no file, so each is copied to from a pipe.
	if stdout := byType["stdout"]; stdout != nil {
		command.Stdout = stdout
	}
	if stderr := byType["stderr"]; stderr != nil {
		command.Stderr = stderr
	}
	err := command.Run()
	for _, name := range []string{"stdout", "stderr"} {
		if stream := byType[name]; stream != nil {
			_ = stream.Close()
		}
	}
	status := `{"metadata":{},"status":"Success"}`
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = fmt.Sprintf(`{"metadata":{},"status":"Failure","reason":"NonZeroExitCode","message":"%v",`+
			`"details":{"causes":[{"reason":"ExitCode","message":"%d"}]}}`, err, exit.ExitCode())
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	_, _ = byType["error"].Write([]byte(status))
	_ = byType["error"].Close()
}

func servePortForward(w http.ResponseWriter, r *http.Request) {
	session, streams := upgrade(w, r, "portforward.k8s.io")
	if session == nil {
		return
	}
	defer session.Close()
	waiting := map[string]*spdystream.Stream{}
	for {
		select {
		case <-session.CloseChan():
			return
		case stream := <-streams:
			request := stream.Headers().Get("requestid")
			if stream.Headers().Get("streamtype") == "error" {
				waiting[request] = stream
				continue
			}
			go forward(stream, waiting[request])
			delete(waiting, request)
		}
	}
}

func forward(data, failure *spdystream.Stream) {
	defer failure.Close()
	target, err := net.Dial("tcp", "127.0.0.1:"+data.Headers().Get("port"))
	if err != nil {
		fmt.Fprintf(failure, "error forwarding: %v", err)
		_ = data.Reset()
		return
	}
	defer target.Close()
	var copying sync.WaitGroup
	copying.Add(1)
	go func() {
		defer copying.Done()
		_, _ = io.Copy(data, target)
		_ = data.Close()
	}()
	go func() {
		_, _ = io.Copy(target, data)
		_ = target.(*net.TCPConn).CloseWrite()
	}()
	copying.Wait()
}
