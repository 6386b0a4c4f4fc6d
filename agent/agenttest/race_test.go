//go:build linux && race

package agenttest

func init() { raceDetector = true }
