//go:build windows

// Command relay is a named pipe whose other end is a TCP server, for tests: it
// passes bytes on and knows nothing of what they say. So the agent that a test
// scripts runs in the test, on Linux, and its pipe is a real one under Wine.
//
//	relay PIPE ADDRESS SDDL
//
// It prints "listens" when it does, and then "connected" and "closed" for each
// client.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/Microsoft/go-winio"

	"sallyport/internal/testkit/wine/prime"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: relay PIPE ADDRESS SDDL")
		os.Exit(2)
	}
	if err := relay(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
}

func relay(pipe, address, sddl string) error {
	l, err := winio.ListenPipe(pipe, &winio.PipeConfig{SecurityDescriptor: sddl})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := prime.Pipe(ctx, pipe); err != nil {
		return err
	}
	fmt.Println("listens")
	for {
		client, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Println("connected")
		go func() {
			join(client, address)
			fmt.Println("closed")
		}()
	}
}

// join passes bytes both ways until one side ends.
func join(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return // as an agent that hangs up at once
	}
	defer server.Close()
	var both sync.WaitGroup
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // either end may go
		to.Close()
		from.Close()
	}
	both.Go(func() { pass(server, client) })
	both.Go(func() { pass(client, server) })
	both.Wait()
}
