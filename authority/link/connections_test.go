package link

import (
	"crypto/tls"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/authority/door"
	"sallyport/authority/enrol"
	"sallyport/internal/organisation"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// TestARootedLaptopCannotHoldEveryConnection: with its certificate it has a few.
func TestARootedLaptopCannotHoldEveryConnection(t *testing.T) {
	w := one(t)
	d := w.join(enrol.Everyone)
	var refused int
	for range door.EachMember + 5 {
		c, err := tls.Dial("tcp", w.at, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{{Certificate: d.chain, PrivateKey: d.key}}})
		w.must(err)
		defer c.Close()
		_, _ = io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			if isTimeout(err) {
				t.Fatal(err)
			}
			refused++
		}
	}
	if refused < 5 {
		t.Errorf("%d of %d are hung up on", refused, door.EachMember+5)
	}
	s := w.join(enrol.Everyone).open()
	s.synced(organisation.KindSettings, "")
	s.alive()
}

// TestAStrangerThatBeginsToJoinAndSendsNothing holds nothing for long.
func TestAStrangerThatBeginsToJoinAndSendsNothing(t *testing.T) {
	w := one(t)
	w.link.callTime = 50 * time.Millisecond
	_, conn := w.dial(nil)
	ctx := w.ctx()
	call, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, authorityv1.AuthorityService_Register_FullMethodName)
	w.must(err)
	err = call.RecvMsg(new(authorityv1.RegisterResponse))
	if ctx.Err() != nil || err == nil {
		t.Fatal("it may wait for ever:", err)
	}
	if code := status.Code(err); code != codes.Canceled && code != codes.DeadlineExceeded && code != codes.Internal {
		t.Error(err)
	}
}
