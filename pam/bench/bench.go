//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/policy"
)

const (
	freshLogins  = 100 // of each contender, in a process of its own each
	crowdSize    = 64
	crowdRounds  = 5
	warmUpLogins = 5
	idleFor      = 10 * time.Second
	readyStarts  = 10
)

// bench is one run: the contenders and what was measured of them.
type bench struct {
	options
	disk       string
	diskFD     int
	passwd     *passwd
	measured   []account
	contenders []*contender
	running    []*agent
	idle       *agent // with 100 users and nothing to do until it is looked at
	pam        *pambench
	next       map[*contender]int // the account whose turn is next
	results    map[*contender]*result
	agentFacts agentFacts
	ruleFacts  []rulesFact
	hookSize   int64 // bytes
	hookStray  int   // symbols exported that should not be
}

// result is what was measured of one contender.
type result struct {
	auth, whole []time.Duration // warm: pam_authenticate; pam_start to pam_end
	cpu         []time.Duration // of the logging-in process
	agentCPU    []time.Duration
	fresh       []time.Duration // pam_start to pam_end in a fresh process
	life        []time.Duration // the fresh process from start to end
	peak        []int           // its memory, in KiB
	crowd       []time.Duration // at once: from the start of all to each one's end
	crowdWall   []time.Duration
	crowdFailed int
	agentRSS    int
}

// agentFacts is what was measured of the agent alone.
type agentFacts struct {
	rss      int // bytes
	wakeUps  int
	ready    []time.Duration
	readyBig time.Duration // with 100,000 users in the vault
}

func newBench(o options, disk string) (*bench, error) {
	fd, err := unix.Open(disk, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	// Users' homes lie below: let them through.
	if err := os.Chmod(disk, 0o755); err != nil {
		return nil, err
	}
	p, err := newPasswd(filepath.Join(disk, "home"))
	if err != nil {
		return nil, err
	}
	return &bench{options: o, disk: disk, diskFD: fd, passwd: p, measured: accounts(0, maxMeasured),
		next: map[*contender]int{}, results: map[*contender]*result{}}, nil
}

func (b *bench) close() error {
	var errs []error
	if b.pam != nil {
		errs = append(errs, b.pam.close())
	}
	for _, a := range b.running {
		errs = append(errs, a.stop())
	}
	return errors.Join(errs...)
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

// prepare sets all contenders up: baselines, peers, then ours.
func (b *bench) prepare() error {
	progress("preparing the peers")
	var err error
	if b.contenders, err = baselines(); err != nil {
		return err
	}
	// AddUser has changed passwd: start from what is there now.
	if b.passwd, err = newPasswd(b.passwd.homes); err != nil {
		return err
	}
	google, err := googleAuthenticator(b.passwd, b.measured)
	if err != nil {
		return err
	}
	b.contenders = append(b.contenders, google)
	for _, users := range []int{1, 1000, 100000} {
		c, err := oath(b.disk, users, b.measured)
		if err != nil {
			return err
		}
		b.contenders = append(b.contenders, c)
	}
	if !b.peersOnly {
		if err := b.prepareAgents(); err != nil {
			return err
		}
	}
	if err := b.passwd.set(b.measured); err != nil {
		return err
	}
	confdir := filepath.Join(b.disk, "pam.d")
	if err := os.Mkdir(confdir, 0o755); err != nil {
		return err
	}
	for _, c := range b.contenders {
		if err := os.WriteFile(filepath.Join(confdir, c.name), []byte(c.stack+"\n"), 0o644); err != nil {
			return err
		}
		c.used = map[int]int64{}
		b.results[c] = &result{}
	}
	b.pam, err = startPambench(b.disk, confdir)
	return err
}

func (b *bench) prepareAgents() error {
	for _, vault := range []struct {
		users, rules int
		fill         []account
	}{
		{users: 100, fill: accounts(0, 100)}, // the idle one
		{users: 1},                           // its user is enrolled before each login
		{users: 1, rules: 1},
		{users: 1, rules: 100},
		{users: 1, rules: policy.MaxRules},
		{users: 1000, fill: spread(b.measured, 1000)},
		{users: 100000, fill: spread(b.measured, 100000)},
	} {
		progress("filling a vault with %d users", vault.users)
		a, err := newAgent(b.dist, b.disk, vault.users, vault.rules)
		if err != nil {
			return err
		}
		b.running = append(b.running, a)
		if err := a.fill(b.passwd, b.disk, vault.fill); err != nil {
			return err
		}
		if vault.users == 100 {
			b.idle = a
			continue
		}
		c, err := a.contender(b.dist)
		if err != nil {
			return err
		}
		b.contenders = append(b.contenders, c)
	}
	return nil
}

// take returns the contender's next login, each account in its turn.
func (b *bench) take(c *contender) (login, error) {
	i := b.next[c] % len(b.measured)
	b.next[c]++
	return c.login(i)
}

// one makes a contender's next login and returns what it cost, with the agent's
// share. The disk has nothing to write when the clock starts.
func (b *bench) one(how string, c *contender) (o outcome, agentCPU time.Duration, err error) {
	l, err := b.take(c)
	if err != nil {
		return o, 0, err
	}
	if err := unix.Syncfs(b.diskFD); err != nil {
		return o, 0, err
	}
	if c.agent != nil {
		if agentCPU, err = c.agent.cpu(); err != nil {
			return o, 0, err
		}
	}
	if o, err = b.pam.one(how, l); err != nil || c.agent == nil {
		return o, 0, err
	}
	after, err := c.agent.cpu()
	return o, after - agentCPU, err
}

// turns lets the contenders log in, one after the other, the order shifted in
// each turn so that nobody always follows the same neighbour.
func (b *bench) turns(n int, visit func(turn int, c *contender) error) error {
	for turn := range n {
		for k := range b.contenders {
			if err := visit(turn, b.contenders[(turn+k)%len(b.contenders)]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) warm() error {
	progress("logging in %d times each, in a warm process", b.logins)
	return b.turns(warmUpLogins+b.logins, func(turn int, c *contender) error {
		counts := turn >= warmUpLogins
		if counts && (turn-warmUpLogins)%c.every != 0 {
			return nil
		}
		o, agentCPU, err := b.one("warm", c)
		if err != nil || !counts {
			return err
		}
		r := b.results[c]
		r.auth = append(r.auth, o.Auth)
		r.whole = append(r.whole, o.whole())
		r.cpu = append(r.cpu, o.CPU)
		r.agentCPU = append(r.agentCPU, agentCPU)
		return nil
	})
}

func (b *bench) fresh() error {
	progress("logging in %d times each, in a process of its own each time", freshLogins)
	return b.turns(freshLogins, func(turn int, c *contender) error {
		if turn%c.every != 0 {
			return nil
		}
		o, _, err := b.one("fresh", c)
		if err != nil {
			return err
		}
		r := b.results[c]
		r.fresh = append(r.fresh, o.whole())
		r.life = append(r.life, o.Total)
		r.peak = append(r.peak, o.Peak)
		return nil
	})
}

func (b *bench) together() error {
	progress("%d logins at once, %d rounds", crowdSize, crowdRounds)
	return b.turns(crowdRounds, func(_ int, c *contender) error {
		if !c.crowds {
			return nil
		}
		var logins []login
		for range crowdSize {
			l, err := b.take(c)
			if err != nil {
				return err
			}
			logins = append(logins, l)
		}
		if err := unix.Syncfs(b.diskFD); err != nil {
			return err
		}
		result, err := b.pam.together(logins)
		if err != nil {
			return err
		}
		r := b.results[c]
		for i, rc := range result.RCs {
			if rc != 0 {
				r.crowdFailed++
			}
			r.crowd = append(r.crowd, result.Done[i])
		}
		r.crowdWall = append(r.crowdWall, result.Wall)
		return nil
	})
}

// agents looks at the agents themselves: the one that had nothing to do all the
// while, and how fast one starts.
func (b *bench) agents() error {
	if b.peersOnly {
		return nil
	}
	progress("watching an idle agent for %v", idleFor)
	var err error
	if b.hookSize, b.hookStray, err = lookAtHook(filepath.Join(b.dist, "pam_sallyport.so")); err != nil {
		return err
	}
	for _, c := range b.contenders {
		if c.agent != nil {
			if b.results[c].agentRSS, err = c.agent.rss(); err != nil {
				return err
			}
		}
	}
	f := &b.agentFacts
	// Once a minute Go's runtime looks how many processors there are (2 switches): of two
	// windows it is in one at most.
	for range 2 {
		before, err := b.idle.switches()
		if err != nil {
			return err
		}
		time.Sleep(idleFor)
		after, err := b.idle.switches()
		if err != nil {
			return err
		}
		if f.wakeUps = after - before; f.wakeUps == 0 {
			break
		}
	}
	if f.rss, err = b.idle.rss(); err != nil {
		return err
	}
	for range readyStarts {
		if err := b.idle.stop(); err != nil {
			return err
		}
		ready, err := b.idle.start()
		if err != nil {
			return err
		}
		f.ready = append(f.ready, ready)
	}
	big := b.running[len(b.running)-1]
	if err := big.stop(); err != nil {
		return err
	}
	f.readyBig, err = big.start()
	return err
}
