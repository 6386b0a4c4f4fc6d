//go:build windows

// Command probe is what the tests of package wine run under Wine.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/windows"
)

func main() {
	what, args := os.Args[1], os.Args[2:]
	switch what {
	case "exit":
		status, err := strconv.Atoi(args[0])
		check(err)
		os.Exit(status)
	case "args":
		fmt.Printf("%q", args)
	case "env":
		fmt.Print(strings.Join(os.Environ(), "\n"))
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		check(err)
	case "serve":
		check(serve(args[0]))
	case "call":
		check(call(args[0], args[1]))
	case "race":
		race()
	default:
		check(fmt.Errorf("probe: no %q", what))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve answers one client of a pipe, after it has said on stdout that it can.
func serve(name string) error {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	pipe, err := windows.CreateNamedPipe(path, windows.PIPE_ACCESS_DUPLEX, windows.PIPE_TYPE_BYTE, 1, 512, 512, 0, nil)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if err := windows.ConnectNamedPipe(pipe, nil); err != nil && err != windows.ERROR_PIPE_CONNECTED {
		return err
	}
	client := os.NewFile(uintptr(pipe), name)
	asked := make([]byte, 512)
	n, err := client.Read(asked)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(client, "heard %s", asked[:n]); err != nil {
		return err
	}
	// Closing would take away what the client has not read yet.
	return windows.FlushFileBuffers(pipe)
}

// call says something to a pipe and prints the answer.
func call(name, text string) error {
	server, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(server, text); err != nil {
		return err
	}
	answer := make([]byte, 512)
	n, err := server.Read(answer)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(answer[:n])
	return err
}

// race is wrong, for the race detector to say so.
func race() {
	var n int
	done := make(chan bool)
	go func() { n++; done <- true }()
	n++
	<-done
	fmt.Println(n)
}
