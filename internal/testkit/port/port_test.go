package port

import (
	"fmt"
	"net"
	"testing"
)

func TestAPortIsGivenOnceAndIsFree(t *testing.T) {
	given := map[int]bool{}
	for range 100 {
		p, err := Free()
		if err != nil || given[p] || p < first || p >= first+count {
			t.Fatalf("%d, %v, given before: %v", p, err, given[p])
		}
		given[p] = true
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			t.Error(err)
			continue
		}
		l.Close()
	}
}
