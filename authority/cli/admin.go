package cli

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/authority/approver"
	"sallyport/authority/config"
	"sallyport/authority/enrol"
	"sallyport/authority/server"
	"sallyport/internal/manpage"
	"sallyport/internal/textout"
)

// account is whose the state becomes when root makes it.
const account = "sallyport-authority"

func (a *app) initCommand() *cobra.Command {
	var organisation, keyFile, owner string
	c := config.Default()
	c.TLS.Mode, c.ListenWeb = "", ""
	cmd := &cobra.Command{
		Use:   "init --name NAME --origin URL",
		Short: "make a new authority: configuration, keys, database",
		Long: `Makes the configuration file, the keys and the database of a new authority, and
replaces nothing that is there.

--origin is where people's phones have the page: a host name that is to stay, as their
passkeys are bound to it. With --api the page comes from another server than the
authority (see 'approver export'), which then cannot change what the page shows.

The organisation key signs whatever changes who may log in. It lies beside the other
keys unless --organisation-key says where to put it: a stick that goes into a safe.
What needs its signature then waits for 'manifest sign'.`,
		Example: `  sallyport-authority init --name "Example Ltd" --origin https://approve.example.com --tls acme
  sallyport-authority init --name Example --origin https://example.com --api https://authority.example.com \
      --tls files --cert /etc/ssl/a.pem --key /etc/ssl/a.key --organisation-key /media/stick/organisation.key
  sallyport-authority init --name Demo --origin http://localhost:8080 --config ./authority.toml --state-dir $PWD/state`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			c.Organisation = organisation
			if err := fillInit(&c); err != nil {
				return err
			}
			return a.init(cmd.Context(), c, keyFile, owner)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&organisation, "name", "", "the organisation's `NAME`, as people know it")
	f.StringVar(&c.Web.Origin, "origin", "", "where the phones' page is: `https://HOST`")
	f.StringVar(&c.Web.API, "api", "", "what the page talks to, where another server has the page: `https://HOST`")
	f.StringVar(&c.Web.RPID, "rp-id", "", "`HOST` that passkeys are bound to (default: that of --origin)")
	f.StringSliceVar(&c.DeviceHosts, "device-host", nil, "`NAME` or address that computers connect to (default: the host of --api)")
	f.StringVar(&c.ListenDevices, "listen-devices", c.ListenDevices, "`ADDRESS` for the computers")
	f.StringVar(&c.ListenWeb, "listen-web", "", "`ADDRESS` for the phones")
	f.StringVar(&c.ListenMetrics, "listen-metrics", c.ListenMetrics, "`ADDRESS` for monitoring")
	f.StringVar(&c.TLS.Mode, "tls", "", "the web certificate: files, acme, self-signed or none")
	f.StringVar(&c.TLS.Cert, "cert", "", "certificate `FILE` (PEM)")
	f.StringVar(&c.TLS.Key, "key", "", "key `FILE` (PEM)")
	f.StringVar(&c.TLS.ACMEEmail, "acme-email", "", "`ADDRESS` for trouble with the certificate")
	f.StringVar(&c.TLS.ACMEDirectory, "acme-directory", "", "`URL` of the certificate authority (default: Let's Encrypt)")
	f.StringVar(&c.StateDir, "state-dir", c.StateDir, "`DIR` of keys and database")
	f.StringVar(&c.DatabaseURLFile, "database-url-file", "", "`FILE` that holds postgres://... (default: SQLite)")
	f.StringVar(&c.Name, "node", "", "`NAME` of this node (default: this computer's)")
	f.StringVar(&keyFile, "organisation-key", "", "`FILE` to put the organisation key's private half into")
	f.StringVar(&owner, "owner", "", "`USER` that the server runs as (default, for root: "+account+" where there is one)")
	f.StringSliceVar(&c.PushServices.UnsafeLocal, "unsafe-push", nil, "push service `HOST:PORT` on this machine, for tests")
	return cmd
}

// fillInit reckons what was not said.
func fillInit(c *config.Config) error {
	if c.Organisation == "" || c.Web.Origin == "" {
		return badUsage("say at least --name and --origin: sallyport-authority init --name \"Example Ltd\" --origin https://approve.example.com")
	}
	api, err := url.Parse(cmp.Or(c.Web.API, c.Web.Origin))
	if err != nil || api.Host == "" {
		return badUsage("%q is no https://HOST", cmp.Or(c.Web.API, c.Web.Origin))
	}
	if page, err := url.Parse(c.Web.Origin); err == nil && c.Web.RPID == "" {
		c.Web.RPID = page.Hostname()
	}
	if len(c.DeviceHosts) == 0 {
		c.DeviceHosts = []string{api.Hostname()}
	}
	local := api.Hostname() == "localhost"
	if c.TLS.Mode == "" {
		switch {
		case c.TLS.Cert != "":
			c.TLS.Mode = config.TLSFiles
		case local && api.Scheme == "https":
			c.TLS.Mode = config.TLSSelfSigned
		case local:
			c.TLS.Mode = config.TLSNone
		default:
			return badUsage("say where the web certificate comes from: --tls acme, or --tls files --cert FILE --key FILE, or --tls none behind a reverse proxy")
		}
	}
	if c.ListenWeb == "" {
		port := cmp.Or(api.Port(), map[string]string{"https": "443", "http": "80"}[api.Scheme])
		c.ListenWeb = "[::]:443"
		if local {
			c.ListenWeb = net.JoinHostPort("127.0.0.1", port)
		} else if c.TLS.Mode == config.TLSNone {
			c.ListenWeb = "127.0.0.1:8080"
		}
	}
	for _, p := range []*string{&c.StateDir, &c.TLS.Cert, &c.TLS.Key, &c.DatabaseURLFile} {
		if *p != "" {
			if *p, err = filepath.Abs(*p); err != nil {
				return err
			}
		}
	}
	return nil
}

// initView is `init --json`.
type initView struct {
	Config               string `json:"config"`
	StateDir             string `json:"state_dir"`
	Origin               string `json:"origin"`
	RPID                 string `json:"rp_id"`
	DevicesURL           string `json:"devices_url"`
	HoldsOrganisationKey bool   `json:"holds_organisation_key"`
	OrganisationKey      string `json:"organisation_key"`
	PageSeparate         bool   `json:"page_separate"`
}

func (a *app) init(ctx context.Context, c config.Config, keyFile, owner string) error {
	text, err := c.Text()
	if err != nil {
		return badUsage("%v", err)
	}
	if _, err := os.Lstat(a.config); !errors.Is(err, fs.ErrNotExist) {
		return &Error{Exit: ExitConflict, Text: a.config + " is there already: an authority is never made over another", Remedy: "see what it is: sallyport-authority status"}
	}
	id, err := ownerOf(owner)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(a.config), 0o755); err != nil {
		return err
	}
	if err := server.WriteNew(a.config, text, 0o644); err != nil {
		return err
	}
	// Read as the server will: what it would refuse is not begun.
	l, err := a.load()
	if err == nil {
		err = server.Init(ctx, l.Config, keyFile)
	}
	if err == nil && id != nil {
		err = filepath.WalkDir(c.StateDir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, id[0], id[1])
		})
	}
	if err != nil {
		return errors.Join(err, os.Remove(a.config))
	}
	v := initView{a.config, c.StateDir, c.Web.Origin, l.Config.Web.RPID, devicesURL(&l.Config), keyFile == "",
		cmp.Or(keyFile, filepath.Join(c.KeyDir(), "organisation.key")), !l.Config.LocalPage()}
	a.result(v, func(w io.Writer) {
		p := a.paint(w)
		printf(w, "%s %s has an authority.\n\n", p.Green("Done:"), c.Organisation)
		printf(w, "  configuration     %s\n  keys, database    %s\n  phones            %s   (passkeys of %s: keep that name)\n  computers         %s\n",
			v.Config, v.StateDir, v.Origin, v.RPID, v.DevicesURL)
		if keyFile == "" {
			printf(w, "  organisation key  %s\n", v.OrganisationKey)
			_, _ = fmt.Fprintf(w, "    %s\n", textout.Fold(keyHere, a.columns(w), 4))
		} else {
			printf(w, "  organisation key  %s: put it where only you get at it; there is no other copy\n", v.OrganisationKey)
		}
		if !v.PageSeparate {
			_, _ = fmt.Fprintf(w, "  the page          %s\n", textout.Fold(pageHere, a.columns(w), 20))
		}
		printf(w, "\nNext:\n")
		if v.PageSeparate {
			printf(w, "  sallyport-authority approver export DIR      the page, for the server that has %s\n", v.Origin)
		}
		run := "systemctl enable --now sallyport-authority"
		if a.config != config.DefaultPath {
			run = "sallyport-authority run --config " + textout.QuoteArg(a.config)
		}
		printf(w, "  %s\n  sallyport-authority backup FILE              keys that are lost are lost: every computer would join anew\n", run)
		printf(w, "  sallyport-authority user add maya\n  sallyport-authority token create --user maya  for the first computer\n")
	})
	return nil
}

// Whom everybody trusts, in the same words in init and status.
const (
	keyHere       = "on the authority: whoever owns it can enrol a phone for anybody (move the file away and restart to change that)"
	keyElsewhere  = "elsewhere: the authority cannot enrol phones by itself"
	pageHere      = "comes from the authority: it is trusted for what it shows (another --api than --origin changes that)"
	pageElsewhere = "comes from another server than the authority"
)

// ownerOf is the account that the state is to belong to; nil: whoever runs this.
func ownerOf(name string) (*[2]int, error) {
	asked := name != ""
	if !asked && os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(cmp.Or(name, account))
	if err != nil {
		if !asked {
			return nil, nil
		}
		return nil, badUsage("--owner: %v", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return &[2]int{uid, gid}, err
}

// devicesURL is what computers join.
func devicesURL(c *config.Config) string {
	_, port, _ := net.SplitHostPort(c.ListenDevices) // validated
	return "https://" + net.JoinHostPort(c.DeviceHosts[0], port)
}

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "run the authority (the server itself)",
		Long:  `Runs the authority in the foreground until SIGTERM or SIGINT.`,
		Args:  cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			l, err := a.load()
			if err != nil {
				return err
			}
			// The journal notes the time itself.
			journal := a.deps.Getenv("JOURNAL_STREAM") != ""
			log := slog.New(slog.NewTextHandler(a.deps.Stderr, &slog.HandlerOptions{ReplaceAttr: func(groups []string, at slog.Attr) slog.Attr {
				if journal && len(groups) == 0 && at.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return at
			}}))
			return server.Run(cmd.Context(), server.Options{Config: l, Version: a.deps.Version, Log: log, Listening: a.deps.Listening})
		}),
	}
}

func (a *app) configCommand() *cobra.Command {
	check := &cobra.Command{
		Use:   "check [FILE]",
		Short: "read a configuration file as the server would, and say what is wrong",
		Args:  cobra.MaximumNArgs(1),
		RunE: do(func(_ *cobra.Command, args []string) error {
			file := a.config
			if len(args) == 1 {
				file = args[0]
			}
			l, err := config.Load(file)
			if err == nil && l.Config.TLS.Mode == config.TLSFiles {
				if _, bad := tls.LoadX509KeyPair(l.Config.TLS.Cert, l.Config.TLS.Key); bad != nil {
					err = fmt.Errorf("%s: tls.cert, tls.key: %w", file, bad)
				}
			}
			if err != nil {
				return &Error{Exit: ExitFailed, Text: err.Error(), Remedy: "correct it; a running server goes on with what it has read"}
			}
			a.result(map[string]any{"file": file, "ok": true}, func(w io.Writer) {
				printf(w, "%s: %s\n  in force from the next start on: systemctl restart sallyport-authority\n", file, a.paint(w).Green("ok"))
			})
			return nil
		}),
	}
	type value struct {
		Key    string `json:"key"`
		Value  string `json:"value"`
		Source string `json:"source"`
	}
	show := &cobra.Command{
		Use:   "show",
		Short: "show each setting and where it came from",
		Args:  cobra.NoArgs,
		RunE: do(func(*cobra.Command, []string) error {
			l, err := a.load()
			if err != nil {
				return err
			}
			list := make([]value, len(l.Values))
			rows := make([][]string, len(l.Values))
			for i, v := range l.Values {
				list[i] = value(v)
				rows[i] = []string{textout.Clean(v.Key + " = " + v.Value), textout.Clean("# " + v.Source)}
			}
			a.result(map[string]any{"values": list}, func(w io.Writer) { textout.Table(w, rows) })
			return nil
		}),
	}
	return group(&cobra.Command{Use: "config", Short: "check or show the configuration"}, check, show)
}

func (a *app) manifestCommand() *cobra.Command {
	pending := &cobra.Command{
		Use:   "pending",
		Short: "print what waits for the organisation's key",
		Args:  cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(au *server.Authority) error {
				file, n, err := au.Enrol.Pending(cmd.Context())
				if err != nil {
					return err
				}
				if _, err := a.deps.Stdout.Write(append(file, '\n')); err != nil {
					return err
				}
				if !a.json {
					printf(a.deps.Stderr, "%s for the organisation's key.\n", textout.Plural(n, "item waits", "items wait"))
				}
				return nil
			})
		}),
	}
	var keyFile string
	var yes bool
	sign := &cobra.Command{
		Use:   "sign --key FILE PENDING",
		Short: "sign what waits, where the organisation's key is; needs no authority",
		Long: `Shows what PENDING (a file, or - for standard input) holds, asks, and prints it signed, for
'manifest import'. It needs the key and nothing else: run it on a computer without a network.
What changes who may log in is what is shown; what is sealed for one computer only that can read.`,
		Args: exactly(1),
		RunE: do(func(_ *cobra.Command, args []string) error {
			if keyFile == "" {
				return badUsage("say where the organisation's key is: --key FILE")
			}
			key, err := enrol.LoadOrganisationKey(keyFile)
			if err != nil {
				return err
			}
			file, err := a.readInput(args[0])
			if err != nil {
				return err
			}
			lines, err := enrol.DescribePending(file)
			if err != nil {
				return err
			}
			for _, l := range lines {
				printf(a.deps.Stderr, "  %s\n", l)
			}
			if args[0] == "-" && !yes {
				return badUsage("standard input is the file, and cannot answer: look at it first, then say --yes")
			}
			if err := a.confirm(yes, fmt.Sprintf("Sign %s?", textout.Plural(len(lines), "item", "items"))); err != nil {
				return err
			}
			signed, err := enrol.SignPending(key, file)
			if err != nil {
				return err
			}
			_, err = a.deps.Stdout.Write(append(signed, '\n'))
			return err
		}),
	}
	sign.Flags().StringVar(&keyFile, "key", "", "the organisation key `FILE`")
	sign.Flags().BoolVar(&yes, "yes", false, "do not ask")
	imports := &cobra.Command{
		Use:   "import SIGNED",
		Short: "take what was signed; the computers get it at once",
		Args:  exactly(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			file, err := a.readInput(args[0])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(au *server.Authority) error {
				n, err := au.Enrol.ImportSigned(cmd.Context(), a.by(), file)
				if err != nil {
					return err
				}
				a.result(map[string]int{"imported": n}, func(w io.Writer) {
					printf(w, "%s in force; the connected computers have it.\n", textout.Plural(n, "item is", "items are"))
				})
				return nil
			})
		}),
	}
	return group(&cobra.Command{Use: "manifest", Short: "have signed what waits for an organisation key that is kept elsewhere"}, pending, sign, imports)
}

func (a *app) policyCommand() *cobra.Command {
	set := &cobra.Command{
		Use:   "set FILE",
		Short: "sign rules for every computer: TOML, as [policy] of the agent's file has them",
		Long: `Signs the rules in FILE (- for standard input) for every computer. They only raise what a
computer requires, unless its own configuration has authority.allow_exemptions.`,
		Args: exactly(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			text, err := a.readInput(args[0])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(au *server.Authority) error {
				waits, err := au.Enrol.SetPolicy(cmd.Context(), a.by(), text)
				if err != nil {
					return err
				}
				a.result(map[string]bool{"waits": waits}, func(w io.Writer) {
					if !waits {
						printf(w, "The policy is signed; the connected computers have it.\n")
					}
					a.waits(w, waits)
				})
				return nil
			})
		}),
	}
	return group(&cobra.Command{Use: "policy", Short: "set what every computer requires"}, set)
}

func (a *app) approverCommand() *cobra.Command {
	export := &cobra.Command{
		Use:   "export DIR",
		Short: "write the page's files, for a web server that is not the authority",
		Args:  exactly(1),
		RunE: do(func(_ *cobra.Command, args []string) error {
			l, err := a.load()
			if err != nil {
				return err
			}
			sender, err := server.WebPush(&l.Config, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			settings := server.Settings(&l.Config)
			if err := approver.Export(args[0], settings, sender.PublicKey()); err != nil {
				return err
			}
			headers := approver.Headers(settings)
			a.result(map[string]any{"dir": args[0], "origin": settings.Origin, "headers": headers}, func(w io.Writer) {
				printf(w, "The page is in %s. Serve it at %s with these headers:\n", args[0], settings.Origin)
				for k := range headers {
					printf(w, "  %s: %s\n", k, headers.Get(k))
				}
				if l.Config.LocalPage() {
					printf(w, "%s web.origin is web.api: the authority serves the page itself, so that it could change it. Set web.api.\n", a.paint(w).Yellow("Note:"))
				}
			})
			return nil
		}),
	}
	return group(&cobra.Command{Use: "approver", Short: "the page on the phones"}, export)
}

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "write configuration, keys and database into one tar file, while the server runs",
		Long: `Writes the configuration, the keys and (with SQLite) a consistent copy of the database into
FILE, which must not exist and is readable by its owner only: it holds the keys of the
authority. Keep it as you would keep them. With PostgreSQL it holds no database: use pg_dump.

To restore, on a computer where the server does not run:
  tar -xpf FILE -C /   (or piece by piece: the names in it are those of the files)
  sallyport-authority status
Computers that joined after the backup have to join anew; what was signed after it has to
be imported again ('manifest import').`,
		Args: exactly(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(au *server.Authority) error { return a.backup(cmd.Context(), au, args[0]) })
		}),
	}
}

func (a *app) backup(ctx context.Context, au *server.Authority, path string) (err error) {
	c := &au.Config
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(path)
		}
	}()
	t := tar.NewWriter(f)
	// Whose it is and who may read it is that of the file of this name, so that the
	// server can open what root restores; from is where its content is.
	add := func(name, from string) error {
		st, err := os.Stat(name)
		if err != nil {
			return err
		}
		h, err := tar.FileInfoHeader(st, "")
		if err != nil {
			return err
		}
		h.Name = strings.TrimPrefix(name, "/")
		if st.IsDir() {
			h.Name += "/"
			return t.WriteHeader(h)
		}
		in, err := os.Open(from)
		if err != nil {
			return err
		}
		defer in.Close()
		content, err := in.Stat()
		if err != nil {
			return err
		}
		h.Size = content.Size()
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		_, err = io.Copy(t, in)
		return err
	}
	file, err := filepath.Abs(a.config)
	if err != nil {
		return err
	}
	if err := add(file, file); err != nil {
		return err
	}
	for _, dir := range []string{c.StateDir, c.KeyDir()} {
		if err := add(dir, dir); err != nil {
			return err
		}
	}
	keys, err := os.ReadDir(c.KeyDir())
	if err != nil {
		return err
	}
	for _, k := range keys {
		name := filepath.Join(c.KeyDir(), k.Name())
		if err := add(name, name); err != nil {
			return err
		}
	}
	database := c.DatabaseURLFile == ""
	if database {
		dir, err := os.MkdirTemp(filepath.Dir(path), ".backup-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := au.Store.Backup(ctx, filepath.Join(dir, "db")); err != nil {
			return err
		}
		if err := add(c.Database(), filepath.Join(dir, "db")); err != nil {
			return err
		}
		// What SQLite left beside the database when the server last died would be
		// played into the one that is restored: the backup puts nothing in its place.
		st, err := os.Stat(c.Database())
		if err != nil {
			return err
		}
		for _, suffix := range []string{"-wal", "-shm"} {
			h, err := tar.FileInfoHeader(st, "")
			if err != nil {
				return err
			}
			h.Name, h.Size = strings.TrimPrefix(c.Database(), "/")+suffix, 0
			if err := t.WriteHeader(h); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(t.Close(), f.Sync()); err != nil {
		return err
	}
	a.result(map[string]any{"file": path, "database": database, "organisation_key": au.Keys.HoldsOrganisationKey()}, func(w io.Writer) {
		printf(w, "%s holds the configuration and the keys%s: keep it as safe as the authority itself.\n", path,
			map[bool]string{true: " and the database"}[database])
		if !database {
			printf(w, "The database is PostgreSQL's to back up: pg_dump.\n")
		}
		if !au.Keys.HoldsOrganisationKey() {
			printf(w, "The organisation key is not in it: it lies elsewhere.\n")
		}
	})
	return nil
}

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "write the manual pages into a directory",
		Args:  exactly(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			written, err := manpage.Write(cmd.Root(), args[0], a.deps.Version, exits.Table())
			if err != nil {
				return err
			}
			a.result(map[string][]string{"written": written}, func(w io.Writer) {
				printf(w, "%s in %s\n", textout.Plural(len(written), "page", "pages"), args[0])
			})
			return nil
		}),
	}
}
