package vault

import "os/exec"

// dieWithUs has nothing to do: the writer ends when nobody listens to it.
func dieWithUs(*exec.Cmd) {}
