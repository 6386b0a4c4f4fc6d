package rate

import (
	"strconv"
	"testing"
	"time"
)

func TestALimiterForgets(t *testing.T) {
	l := New(1, 2)
	now := time.Unix(1e9, 0)
	for i := range maxBuckets + 10 {
		l.Allow(strconv.Itoa(i), now)
	}
	if len(l.buckets) > maxBuckets+1 {
		t.Errorf("%d buckets", len(l.buckets))
	}
	if l.Allow("somebody new", now) {
		t.Error("past the bound strangers share one bucket, which is empty by now")
	}
	if !l.Allow("somebody new", now.Add(time.Hour)) {
		t.Error("full buckets were not forgotten")
	}
}
