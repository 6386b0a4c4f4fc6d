//go:build linux

package measure_test

import (
	"slices"
	"testing"

	"sallyport/internal/testkit/measure"
)

func TestTargetLines(t *testing.T) {
	for want, target := range map[string]measure.Target{
		"target totp_warm_vs_google_authenticator 0.43 0.50 ok": {Name: "totp_warm_vs_google_authenticator", Measured: 0.43, Limit: 0.5, Digits: 2},
		"target x 0.51 0.50 MISSED":                             {Name: "x", Measured: 0.51, Limit: 0.5, Digits: 2},
		"target x 0.50 0.50 ok":                                 {Name: "x", Measured: 0.5, Limit: 0.5, Digits: 2},
		"target x 25.0 25.0 MISSED":                             {Name: "x", Measured: 25, Limit: 25, Digits: 1, Bound: measure.Under},
		"target x 1300 1300 ok":                                 {Name: "x", Measured: 1300, Limit: 1300, Bound: measure.AtLeast},
		"target x 1299 1300 MISSED":                             {Name: "x", Measured: 1299, Limit: 1300, Bound: measure.AtLeast},
		"target x 0 0 ok":                                       {Name: "x"},
	} {
		if got := target.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestQuantile(t *testing.T) {
	samples := []int{5, 1, 4, 2, 3}
	if p50, p99 := measure.Quantile(samples, 0.5), measure.Quantile(samples, 0.99); p50 != 3 || p99 != 5 {
		t.Errorf("p50 %d, p99 %d of %v", p50, p99, samples)
	}
	if !slices.Equal(samples, []int{5, 1, 4, 2, 3}) {
		t.Error("the samples were put in order in place")
	}
}
