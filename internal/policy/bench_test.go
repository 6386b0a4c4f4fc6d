package policy_test

import (
	"fmt"
	"runtime"
	"testing"

	"sallyport/internal/policy"
)

// manyRules are rules of which none fits, so that all are looked at.
func manyRules(n int) policy.Rules {
	r := policy.Rules{Ask: policy.AskEnrolled}
	for i := range n {
		r.Rules = append(r.Rules, fmt.Sprintf(`rule %d: any, remember 15m when service == "sshd" && remote.within("10.%d.0.0/16", "2001:db8:%x::/48") && (hour < 6 || hour >= 22) && "group%d" in groups`, i, i%256, i, i))
	}
	return r
}

func BenchmarkCompile(b *testing.B) {
	rules := manyRules(policy.MaxRules)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.Compile(rules, nil, false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{0, 1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p, err := policy.Compile(manyRules(n), nil, false)
			if err != nil {
				b.Fatal(err)
			}
			who := from(alice, "203.0.113.7")
			b.ReportAllocs()
			for b.Loop() {
				if d := p.Decide(who, company); d.Effect != policy.IfEnrolled {
					b.Fatal(d)
				}
			}
		})
	}
}

func BenchmarkHeap(b *testing.B) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	rules := manyRules(policy.MaxRules)
	before := heap()
	p, err := policy.Compile(rules, nil, false)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(heap()-before)/1e6, "MB/1000rules")
	runtime.KeepAlive(p)
}
