//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"sallyport/internal/testkit/sandbox"
)

// contender is one way to check who logs in: a PAM stack and what lies behind it.
type contender struct {
	name  string
	about string // one line for the report
	stack string // the one line of its PAM service

	// next says how the i-th login goes; it prepares whatever that needs.
	next func(i int, now time.Time) (login, error)
	// oneTime: a code is good once, and next gives the present one.
	oneTime bool
	// every: in a warm process it takes only every n-th turn, being slow.
	every int
	// crowds: it takes part when many log in at once.
	crowds bool
	agent  *agent // who works for it in another process, or nil

	used map[int]int64 // the time step of the last code of the i-th account
}

// login waits, where it must, until the i-th account has an unused code, and
// returns the login to make with it.
func (c *contender) login(i int) (login, error) {
	now := time.Now()
	if c.oneTime {
		step := now.Unix() / int64(period/time.Second)
		if c.used[i] == step {
			step++
			// The only way to an unused code is to wait for the phone's next one.
			time.Sleep(time.Until(time.Unix(step*int64(period/time.Second), 0)))
			now = time.Now()
		}
		c.used[i] = step
	}
	l, err := c.next(i, now)
	l.service = c.name
	return l, err
}

// phone makes the login of an account whose secret stays what it was.
func phone(i int, now time.Time) (login, error) {
	code, err := account(i).code(0, now)
	return login{user: account(i).name(), answer: code}, err
}

// baselines are what a login costs without a second factor.
func baselines() ([]*contender, error) {
	const password = "correct horse battery staple"
	u, err := sandbox.AddUser("benchpassword", password)
	if err != nil {
		return nil, err
	}
	always := func(name string) func(int, time.Time) (login, error) {
		return func(int, time.Time) (login, error) { return login{user: name, answer: password}, nil }
	}
	return []*contender{
		{name: "permit", about: "pam_permit: libpam alone", stack: "auth required pam_permit.so", next: always(account(0).name()), every: 1},
		{name: "unix", about: "pam_unix: a password", stack: "auth required pam_unix.so", next: always(u.Name), every: 10},
	}, nil
}

// googleAuthenticator prepares pam_google_authenticator as its own program sets
// a user up with the safe answers: `google-authenticator -t -d -f -r 3 -R 30 -w 3`,
// a file in each home, which the module reads as the user.
func googleAuthenticator(p *passwd, measured []account) (*contender, error) {
	if err := os.Mkdir(p.homes, 0o755); err != nil {
		return nil, err
	}
	for _, a := range measured {
		home := p.home(a)
		file := filepath.Join(home, ".google_authenticator")
		content := unpadded.EncodeToString(a.secret(0)) +
			"\n\" RATE_LIMIT 3 30\n\" WINDOW_SIZE 3\n\" DISALLOW_REUSE\n\" TOTP_AUTH\n"
		if err := os.Mkdir(home, 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(file, []byte(content), 0o400); err != nil {
			return nil, err
		}
		for _, path := range []string{home, file} {
			if err := os.Chown(path, a.uid(), 100); err != nil {
				return nil, err
			}
		}
	}
	return &contender{name: "google_authenticator", about: "pam_google_authenticator: no reuse, rate limit, window 3",
		stack: "auth required pam_google_authenticator.so", next: phone, oneTime: true, every: 1, crowds: true}, nil
}

// oath prepares pam_oath with one usersfile of so many users; with one user,
// each measured account has such a file of its own.
func oath(dir string, users int, measured []account) (*contender, error) {
	dir = filepath.Join(dir, fmt.Sprintf("oath-%d", users))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	c := &contender{name: "oath_" + strconv.Itoa(users), about: fmt.Sprintf("pam_oath: usersfile with %d", users),
		next: phone, oneTime: true, every: 1, crowds: users > 1}
	file := filepath.Join(dir, "users.oath")
	if users == 1 {
		file = filepath.Join(dir, "${USER}")
		for _, a := range measured {
			if err := os.WriteFile(filepath.Join(dir, a.name()), []byte(a.oathLine()), 0o600); err != nil {
				return nil, err
			}
		}
	} else if err := os.WriteFile(file, oathFile(spread(measured, users)), 0o600); err != nil {
		return nil, err
	}
	if users >= 100000 {
		c.every, c.crowds = 5, false // some 50 ms each, and one at a time
	}
	c.stack = "auth required pam_oath.so window=1 digits=6 usersfile=" + file
	return c, nil
}

// spread returns so many accounts with the measured ones evenly among them.
func spread(measured []account, users int) []account {
	list := slices.Clone(measured)
	for next := account(maxMeasured); len(list) < users; next++ {
		list = append(list, next)
	}
	mixed := make([]account, 0, users)
	for i := range list {
		// 7919 is prime and divides none of the sizes in use: each index once.
		mixed = append(mixed, list[i*7919%len(list)])
	}
	return mixed
}
