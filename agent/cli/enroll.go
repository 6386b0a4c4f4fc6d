package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/internal/command"
	"sallyport/internal/qr"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

const (
	// confirmTries is how often a confirming code may be wrong.
	confirmTries = 3
	maxURI       = 4096
)

// enrolView is `enroll --json`.
type enrolView struct {
	User          string   `json:"user"`
	Key           string   `json:"key"`
	OTPAuthURI    string   `json:"otpauth_uri"`
	RecoveryCodes []string `json:"recovery_codes"`
}

func (a *app) enrollCommand() *cobra.Command {
	var request adminv1.EnrolRequest
	var uriStdin, showQR, phone bool
	c := &cobra.Command{
		Use:     "enroll USER",
		Aliases: []string{"enrol"},
		Short:   "give a user a second factor: shows a QR code for the phone",
		Long: `Makes a secret for a user, shows it as a QR code (on a terminal) and as an
otpauth URI, and asks for one code from the phone before it is in force. The
recovery codes are shown once, at the end.

--no-confirm puts it in force at once. --uri-stdin takes an existing secret: one
otpauth URI on standard input, in force at once.

--push lets a phone approve this user's logins at this computer, beside the codes:
it shows a QR code, and waits until the phone has enrolled. Ctrl-C withdraws it.
With --replace the phones enrolled here before are forgotten once the new one is
in. The computer must have joined an authority (sallyport join). --json prints two
objects: the link, and then the phone.`,
		Example: `  sallyport enroll alice
  sallyport enroll alice --json --no-confirm
  sallyport enroll alice --uri-stdin < uri.txt
  sallyport enroll alice --push`,
		Args:              oneUser,
		ValidArgsFunction: a.completeUser,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			if phone {
				for _, other := range []string{"no-confirm", "uri-stdin", "algorithm", "digits"} {
					if cmd.Flags().Changed(other) {
						return badUsage("--%s is about codes, and --push enrols a phone: two commands", other)
					}
				}
				return a.enrollPush(cmd.Context(), &adminv1.EnrolPushRequest{User: args[0], Replace: request.Replace}, showQR)
			}
			request.User = args[0]
			if cmd.Flags().Changed("digits") && request.Digits != 6 && request.Digits != 8 {
				return badUsage("--digits %d: 6 or 8", request.Digits)
			}
			algorithm, err := parseAlgorithm(request.Algorithm)
			if err != nil {
				return err
			}
			request.Algorithm = algorithm
			if uriStdin {
				if cmd.Flags().Changed("digits") || cmd.Flags().Changed("algorithm") {
					return badUsage("--digits and --algorithm are in the otpauth URI already")
				}
				if request.OtpauthUri, err = a.readURI(); err != nil {
					return err
				}
			}
			return a.enroll(cmd.Context(), &request, showQR)
		}),
	}
	c.Flags().BoolVar(&request.Replace, "replace", false, "give an enrolled user a new secret (with --push: a new phone); the old one ends")
	c.Flags().BoolVar(&phone, "push", false, "let a phone approve logins at this computer")
	c.Flags().BoolVar(&request.NoConfirm, "no-confirm", false, "in force at once, without a code from the phone")
	c.Flags().BoolVar(&uriStdin, "uri-stdin", false, "take an existing secret: an otpauth URI on standard input")
	c.Flags().StringVar(&request.Algorithm, "algorithm", "SHA1", "SHA1, SHA256 or SHA512 (many phones know only SHA1)")
	c.Flags().Int32Var(&request.Digits, "digits", 6, "6 or 8")
	c.Flags().BoolVar(&showQR, "qr", false, "show the QR code even when this is not a terminal")
	_ = c.RegisterFlagCompletionFunc("algorithm", cobra.FixedCompletions([]string{"SHA1", "SHA256", "SHA512"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("digits", cobra.FixedCompletions([]string{"6", "8"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func parseAlgorithm(s string) (string, error) {
	switch u := strings.ReplaceAll(strings.ToUpper(s), "-", ""); u {
	case "SHA1", "SHA256", "SHA512":
		return u, nil
	}
	return "", badUsage("--algorithm %s: SHA1, SHA256 or SHA512", clean(s))
}

func (a *app) readURI() (string, error) {
	if a.deps.IsTTY(a.deps.Stdin) {
		_, _ = fmt.Fprintln(a.deps.Stderr, "Paste the otpauth URI, then press Enter:")
	}
	uri, err := a.readLine(maxURI)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if !strings.HasPrefix(uri, "otpauth://") {
		// Not echoed: it may be the secret itself.
		return "", badUsage("standard input: no otpauth:// URI on the first line")
	}
	return uri, nil
}

// enroll keeps one connection for both steps. With --json what a person needs to
// see on the way goes to standard error, so that standard output is one object.
func (a *app) enroll(ctx context.Context, request *adminv1.EnrolRequest, showQR bool) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	first, cancel := context.WithTimeout(ctx, a.deps.CallTimeout)
	defer cancel()
	answer, err := c.Enrol(first, request)
	if err != nil {
		return fromAgent(err, c.socket)
	}
	v := enrolView{User: answer.GetUser(), Key: answer.GetKey(), OTPAuthURI: answer.GetOtpauthUri(),
		RecoveryCodes: answer.GetRecoveryCodes()}
	talk := a.deps.Stdout
	if a.json {
		talk = a.deps.Stderr
	}
	existing := request.GetOtpauthUri() != ""
	pending := answer.GetEnrolmentId() != ""
	if existing {
		v.OTPAuthURI = request.GetOtpauthUri()
	}
	// The secret is shown where somebody needs it: not when it came from outside,
	// and not twice with --json.
	if !existing && (pending || !a.json) {
		a.showSecret(talk, v.User, v.OTPAuthURI, showQR)
	}
	if pending {
		if v.RecoveryCodes, err = a.confirmCode(ctx, c, answer.GetEnrolmentId(), talk); err != nil {
			return err
		}
	}
	v.RecoveryCodes = append([]string{}, v.RecoveryCodes...)
	a.result(v, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "\n%s is enrolled: from now on the login asks for a code.\n\n", clean(v.User))
		printRecovery(w, v.User, v.RecoveryCodes)
	})
	return nil
}

func (a *app) showSecret(w io.Writer, user, uri string, always bool) {
	a.showQR(w, user, uri, always)
	_, _ = fmt.Fprintf(w, "otpauth URI (keep it secret):\n%s\n", clean(uri))
}

// showQR draws a text for the user's phone, where there is a terminal.
func (a *app) showQR(w io.Writer, user, text string, always bool) {
	tty := a.deps.IsTTY(w)
	if tty || always {
		code, columns, err := qrCode(text, a.paint(w))
		width := a.deps.Width(w)
		switch {
		case err != nil:
			_, _ = fmt.Fprintf(w, "(No QR code: %v.)\n", err)
		case tty && width > 0 && width < columns:
			_, _ = fmt.Fprintf(w, "(The QR code needs %d columns, this terminal has %d.)\n", columns, width)
		default:
			_, _ = fmt.Fprintf(w, "Scan this with %s's phone:\n\n%s\n", clean(user), code)
		}
	}
}

// qrCode draws a QR code. With colours it is light on dark whatever the
// terminal's theme is.
func qrCode(text string, p command.Painter) (code string, columns int, err error) {
	code, err = qr.Text(text)
	if err != nil {
		return "", 0, err
	}
	lines := strings.Split(strings.TrimRight(code, "\n"), "\n")
	for i, l := range lines {
		columns = max(columns, utf8.RuneCountInString(l))
		lines[i] = p.SGR("97;40", l)
	}
	return strings.Join(lines, "\n") + "\n", columns, nil
}

// confirmCode asks for codes from the phone until one is right.
func (a *app) confirmCode(ctx context.Context, c *agent, id string, talk io.Writer) ([]string, error) {
	notInForce := "the enrolment is not in force; start again: sallyport enroll, or use --no-confirm"
	for try := 1; ; try++ {
		_, _ = fmt.Fprint(talk, "Code from the phone: ")
		code, err := a.readLine(64)
		if !a.deps.IsTTY(a.deps.Stdin) {
			_, _ = fmt.Fprintln(talk)
		}
		if errors.Is(err, io.EOF) {
			return nil, &Error{Exit: ExitUsage, Text: "no confirming code on standard input", Remedy: notInForce}
		}
		if err != nil {
			return nil, err
		}
		callCtx, cancel := context.WithTimeout(ctx, a.deps.CallTimeout)
		answer, err := c.ConfirmEnrolment(callCtx, &adminv1.ConfirmEnrolmentRequest{EnrolmentId: id, Code: strings.ReplaceAll(code, " ", "")})
		cancel()
		switch {
		case err == nil:
			return answer.GetRecoveryCodes(), nil
		case status.Code(err) != codes.FailedPrecondition && status.Code(err) != codes.InvalidArgument:
			return nil, fromAgent(err, c.socket)
		case try == confirmTries:
			return nil, &Error{Exit: ExitFailed, Text: status.Convert(err).Message(), Remedy: notInForce}
		}
		_, _ = fmt.Fprintf(talk, "%s\n", clean(status.Convert(err).Message()))
	}
}
