package loginsvc

import (
	"context"

	"sallyport/internal/factor/push"
)

// Courier takes challenges to phones and brings their answers. It decides
// nothing: every answer is verified here.
type Courier interface {
	// Send has the user's phones ring and returns once the authority took the
	// challenge (1.5 s at most), or why it did not: a push.Reason such as
	// push.TooMany, or PushOffline. approvers are the keys that will be taken.
	// Answers come on Sent.Answers until Sent.End.
	Send(ctx context.Context, user string, c *push.Live, approvers []push.Approver) (Sent, error)
}

// Sent is a challenge on its way.
type Sent struct {
	Phone   string // the phones' names, for the screen
	Answers <-chan push.Answer
	// End tells the authority how the login ended: "approved", "code", "denied",
	// "reported", "wrong_number", "timed_out", "cancelled". To be called once.
	End func(outcome string)
}

// PushRefused is the error of Courier.Send when there is no push for this login.
type PushRefused struct {
	Reason push.Reason
	Text   string // for the log
}

func (e *PushRefused) Error() string { return string(e.Reason) + ": " + e.Text }

// PushOffline: the authority did not answer in time; a code is asked for.
const PushOffline push.Reason = "authority_unreachable"
