//go:build windows

// Command primer spends the first instance of pipes that a program under Wine
// has made or is about to make; see package prime.
//
//	primer \\.\pipe\ProtectedPrefix\Administrators\sallyport\login
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"sallyport/internal/testkit/wine/prime"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, pipe := range os.Args[1:] {
		if err := prime.Pipe(ctx, pipe); err != nil {
			fmt.Fprintln(os.Stderr, "primer:", err)
			os.Exit(1)
		}
	}
}
