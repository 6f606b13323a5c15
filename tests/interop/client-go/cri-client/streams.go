package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/moby/term"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func exec(c command) error {
	container, cmd := c.arguments[0], c.arguments[1:]
	if c.flags["s"] {
		return execSync(c, container, cmd)
	}
	request := &cri.ExecRequest{
		ContainerId: container, Cmd: cmd,
		Stdin: c.flags["i"], Stdout: true, Stderr: !c.flags["t"], Tty: c.flags["t"],
	}
	answer, err := c.Exec(soon(), request)
	if err != nil {
		return err
	}
	return stream(c, answer.Url)
}

// Runs a short command without streams.
func execSync(c command, container string, cmd []string) error {
	answer, err := c.ExecSync(soon(), &cri.ExecSyncRequest{ContainerId: container, Cmd: cmd, Timeout: 20})
	if err != nil {
		return err
	}
	os.Stdout.Write(answer.Stdout)
	os.Stderr.Write(answer.Stderr)
	if answer.ExitCode != 0 {
		return fmt.Errorf("command terminated with exit code %d", answer.ExitCode)
	}
	return nil
}

func attach(c command) error {
	request := &cri.AttachRequest{
		ContainerId: c.arguments[0],
		Stdin:       c.flags["i"], Stdout: true, Stderr: !c.flags["t"], Tty: c.flags["t"],
	}
	answer, err := c.Attach(soon(), request)
	if err != nil {
		return err
	}
	return stream(c, answer.Url)
}

// Copies the streams of a command.
func stream(c command, address string) error {
	to, err := url.Parse(address)
	if err != nil {
		return err
	}
	executor, err := remotecommand.NewSPDYExecutor(&rest.Config{}, "POST", to)
	if err != nil {
		return err
	}
	options := remotecommand.StreamOptions{Stdout: os.Stdout, Stderr: os.Stderr, Tty: c.flags["t"]}
	if c.flags["i"] {
		options.Stdin = os.Stdin
	}
	if c.flags["t"] {
		state, err := term.SetRawTerminal(os.Stdin.Fd())
		if err != nil {
			return err
		}
		defer term.RestoreTerminal(os.Stdin.Fd(), state)
		options.Stderr = nil
		options.TerminalSizeQueue = newSizes()
	}
	return executor.Stream(options)
}

// The sizes of the terminal: the present one, and each after a change.
type sizes chan os.Signal

func newSizes() sizes {
	changed := make(sizes, 1)
	changed <- syscall.SIGWINCH
	signal.Notify(changed, syscall.SIGWINCH)
	return changed
}

func (changed sizes) Next() *remotecommand.TerminalSize {
	<-changed
	size, err := term.GetWinsize(os.Stdin.Fd())
	if err != nil {
		return nil
	}
	return &remotecommand.TerminalSize{Width: size.Width, Height: size.Height}
}

func portForward(c command) error {
	answer, err := c.PortForward(soon(), &cri.PortForwardRequest{PodSandboxId: c.arguments[0]})
	if err != nil {
		return err
	}
	to, err := url.Parse(answer.Url)
	if err != nil {
		return err
	}
	transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{})
	if err != nil {
		return err
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", to)
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.New(dialer, c.arguments[1:], stop, ready, os.Stdout, os.Stderr)
	if err != nil {
		return err
	}
	return forwarder.ForwardPorts()
}
