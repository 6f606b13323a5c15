// A client of a container runtime with the commands of crictl that the checks need. As crictl does,
// it asks over gRPC for a URL, and opens it with the packages of client-go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cri-client:", err)
		os.Exit(1)
	}
}

// The runtime, and what was given to a command.
type command struct {
	cri.RuntimeServiceClient
	flags     map[string]bool
	arguments []string
}

// The arguments are: --socket PATH COMMAND [-FLAGS]... ARGUMENT...
func run(arguments []string) error {
	if len(arguments) < 3 || arguments[0] != "--socket" {
		return errors.New("usage: cri-client --socket PATH COMMAND [-FLAGS]... ARGUMENT...")
	}
	dial := func(_ context.Context, path string) (net.Conn, error) { return net.Dial("unix", path) }
	// Old versions of the library would name the path as the host, which is no valid one.
	host := grpc.WithAuthority("localhost")
	connection, err := grpc.Dial(arguments[1], grpc.WithInsecure(), grpc.WithContextDialer(dial), host)
	if err != nil {
		return err
	}
	defer connection.Close()
	does, ok := commands[arguments[2]]
	if !ok {
		return fmt.Errorf("there is no command %s", arguments[2])
	}
	c := command{cri.NewRuntimeServiceClient(connection), map[string]bool{}, arguments[3:]}
	for len(c.arguments) > 0 && strings.HasPrefix(c.arguments[0], "-") {
		for _, flag := range c.arguments[0][1:] {
			c.flags[string(flag)] = true
		}
		c.arguments = c.arguments[1:]
	}
	return does(c)
}

var commands = map[string]func(command) error{
	"version": func(c command) error {
		return show(c.Version(soon(), &cri.VersionRequest{}))
	},
	"info": func(c command) error {
		return show(c.Status(soon(), &cri.StatusRequest{}))
	},
	"pods": func(c command) error {
		pods, err := c.ListPodSandbox(soon(), &cri.ListPodSandboxRequest{})
		for _, pod := range pods.GetItems() {
			fmt.Println(pod.Id)
		}
		return err
	},
	"inspectp": func(c command) error {
		return show(c.PodSandboxStatus(soon(), &cri.PodSandboxStatusRequest{PodSandboxId: c.arguments[0]}))
	},
	"runp": func(c command) error {
		config := &cri.PodSandboxConfig{}
		if err := read(c.arguments[0], config); err != nil {
			return err
		}
		pod, err := c.RunPodSandbox(soon(), &cri.RunPodSandboxRequest{Config: config})
		return print(pod.GetPodSandboxId(), err)
	},
	"stopp": func(c command) error {
		_, err := c.StopPodSandbox(soon(), &cri.StopPodSandboxRequest{PodSandboxId: c.arguments[0]})
		return err
	},
	"rmp": func(c command) error {
		_, err := c.RemovePodSandbox(soon(), &cri.RemovePodSandboxRequest{PodSandboxId: c.arguments[0]})
		return err
	},
	"ps": func(c command) error {
		filter := &cri.ContainerFilter{}
		if !c.flags["a"] {
			filter.State = &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}
		}
		containers, err := c.ListContainers(soon(), &cri.ListContainersRequest{Filter: filter})
		for _, container := range containers.GetContainers() {
			fmt.Println(container.Id)
		}
		return err
	},
	"inspect": func(c command) error {
		return show(c.ContainerStatus(soon(), &cri.ContainerStatusRequest{ContainerId: c.arguments[0]}))
	},
	"create": func(c command) error {
		pod, container := &cri.PodSandboxConfig{}, &cri.ContainerConfig{}
		if err := read(c.arguments[1], container); err != nil {
			return err
		}
		if err := read(c.arguments[2], pod); err != nil {
			return err
		}
		request := &cri.CreateContainerRequest{PodSandboxId: c.arguments[0], Config: container, SandboxConfig: pod}
		created, err := c.CreateContainer(soon(), request)
		return print(created.GetContainerId(), err)
	},
	"start": func(c command) error {
		_, err := c.StartContainer(soon(), &cri.StartContainerRequest{ContainerId: c.arguments[0]})
		return err
	},
	"stop": func(c command) error {
		_, err := c.StopContainer(soon(), &cri.StopContainerRequest{ContainerId: c.arguments[0]})
		return err
	},
	"rm": func(c command) error {
		_, err := c.RemoveContainer(soon(), &cri.RemoveContainerRequest{ContainerId: c.arguments[0]})
		return err
	},
	"exec":         exec,
	"attach":       attach,
	"port-forward": portForward,
}

// No answer takes long.
func soon() context.Context {
	ctx, _ := context.WithTimeout(context.Background(), 30*time.Second)
	return ctx
}

// Reads a file of JSON.
func read(path string, into interface{}) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func show(answer fmt.Stringer, err error) error {
	if err == nil {
		fmt.Println(answer)
	}
	return err
}

func print(id string, err error) error {
	if err == nil {
		fmt.Println(id)
	}
	return err
}
