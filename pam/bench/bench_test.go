//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestSpreadHoldsEveryAccountOnceAndTheMeasuredOnes(t *testing.T) {
	measured := accounts(0, maxMeasured)
	for _, users := range []int{1000, 100000} {
		list := spread(measured, users)
		sorted := slices.Compact(slices.Sorted(slices.Values(list)))
		if len(list) != users || len(sorted) != users {
			t.Errorf("%d accounts: %d in the list, %d different", users, len(list), len(sorted))
		}
		if !slices.Equal(sorted[:maxMeasured], measured) {
			t.Errorf("%d accounts: not all measured ones are among them", users)
		}
		if slices.IsSorted(list) {
			t.Errorf("%d accounts: the measured ones all come first", users)
		}
	}
}

func TestACodeIsNeverGivenTwice(t *testing.T) {
	var codes []string
	c := &contender{oneTime: true, used: map[int]int64{}, next: func(i int, now time.Time) (login, error) {
		l, err := phone(i, now)
		codes = append(codes, l.user+l.answer)
		return l, err
	}}
	for i := range 50 {
		if _, err := c.login(i); err != nil {
			t.Fatal(err)
		}
	}
	if len(codes) != 50 || len(slices.Compact(slices.Sorted(slices.Values(codes)))) != 50 {
		t.Errorf("codes given twice: %q", codes)
	}
	now := time.Now().Unix() / 30
	if step := c.used[0]; step != now && step != now-1 {
		t.Errorf("step %d recorded at step %d", step, now)
	}
}

// A login that PAM denies is no measurement.
func TestPambench(t *testing.T) {
	dir := t.TempDir()
	services := filepath.Join(dir, "pam.d")
	if err := os.Mkdir(services, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, module := range map[string]string{"yes": "pam_permit.so", "no": "pam_deny.so"} {
		if err := os.WriteFile(filepath.Join(services, name), []byte("auth required "+module+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := startPambench(dir, services)
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"warm", "fresh"} {
		o, err := p.one(how, login{"yes", "root", "x"})
		if err != nil || o.Auth <= 0 || o.CPU <= 0 {
			t.Errorf("%s: %+v, %v", how, o, err)
		}
		if how == "fresh" && (o.Peak <= 0 || o.Total < o.whole()) {
			t.Errorf("fresh: %+v", o)
		}
		if _, err := p.one(how, login{"no", "root", "x"}); err == nil {
			t.Errorf("%s: a denied login counts", how)
		}
	}
	c, err := p.together([]login{{"yes", "root", "x"}, {"no", "root", "x"}, {"yes", "root", "x"}})
	if err != nil || len(c.RCs) != 3 || c.RCs[0] != 0 || c.RCs[1] == 0 || c.RCs[2] != 0 || c.Wall < slices.Max(c.Done) {
		t.Errorf("together: %+v, %v", c, err)
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}
