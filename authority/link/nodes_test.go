package link

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
	factor "sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/passkey"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// twoNodes are two nodes on one PostgreSQL.
func twoNodes(t *testing.T) (a, b *world, url string) {
	url = storetest.Database(t)
	keys, c := makeKeys(t), new(clockwork)
	a = newNode(t, storetest.Open(t, store.Options{PostgreSQL: url, Node: "a"}), keys, c)
	b = newNode(t, storetest.Open(t, store.Options{PostgreSQL: url, Node: "b"}), keys, c)
	return a, b, url
}

func TestTheAnswerArrivesAtTheOtherNode(t *testing.T) {
	a, b, _ := twoNodes(t)
	a.users("maya")
	k := a.phone("maya")
	d := a.join("maya")
	s := d.open()
	s.synced(organisation.KindSettings, "")
	login := s.begins("maya", k)
	b.must(b.answer(k, login, factor.Approve))
	if got := s.answered(); got.GetId() != login.GetId() {
		t.Errorf("%v", got)
	}
	s.end(login.GetId(), "approved")

	// So do a phone's key, what is signed, and the end of the device.
	id := factor.NewID()
	s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_EnrolmentBegin{EnrolmentBegin: &authorityv1.EnrolmentBegin{
		Id: id, User: "maya", Expires: timestamppb.New(a.now().Add(time.Minute))}}})
	if got := wait(s, (*authorityv1.AuthorityMessage).GetEnrolmentStarted); got.GetRefused() != "" {
		t.Fatal(got)
	}
	b.update(func(tx store.Tx) error {
		return joinErrors(tx.PostKey(id, passkey.New(rp).Registration("x"), make([]byte, 32), nil, b.now()),
			tx.Notify(store.Notice{Topic: store.TopicEnrolment, Device: d.id, ID: id}))
	})
	if got := wait(s, (*authorityv1.AuthorityMessage).GetEnrolmentKey); got.GetId() != id {
		t.Errorf("%v", got)
	}
	b.manifest("maya")
	s.synced(organisation.KindApprovers, "maya")
	b.must(b.enrol.RevokeDevice(t.Context(), "root", d.id, "stolen"))
	s.endsWith("revoked")
}

func TestADeviceThatMovesToTheOtherNode(t *testing.T) {
	a, b, _ := twoNodes(t)
	a.users("maya")
	k := a.phone("maya")
	d := a.join("maya")
	first := d.open()
	login := first.begins("maya", k)
	second := d.on(b).open()
	first.endsWith("replaced")
	a.must(a.answer(k, login, factor.Approve))
	if got := second.answered(); got.GetId() != login.GetId() {
		t.Errorf("%v", got)
	}
	if at := a.online()[d.id]; at != "b" {
		t.Errorf("the device is on %q", at)
	}
}

func TestANodeIsKilled(t *testing.T) {
	a, b, _ := twoNodes(t)
	a.users("maya")
	k := a.phone("maya")
	d := a.join("maya")
	s := d.open()
	login := s.begins("maya", k)
	a.kill()
	s.ends()
	b.must(b.answer(k, login, factor.Approve)) // to nobody
	s = d.on(b).open()
	if got := s.answered(); got.GetId() != login.GetId() {
		t.Errorf("%v", got)
	}
	s.end(login.GetId(), "approved")
	login = s.begins("maya", k)
	b.must(b.answer(k, login, factor.Deny))
	s.answered()
}

// sql runs a statement beside the authority.
func sql(t *testing.T, url, text string) (n int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	tag, err := c.Exec(ctx, text)
	if err != nil {
		t.Fatal(err)
	}
	return tag.RowsAffected()
}

// cutListen ends what the nodes listen by.
func cutListen(t *testing.T, w *world, url string) {
	t.Helper()
	w.eventually("a node listens", func() bool {
		return sql(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'`) > 0
	})
}

func TestTheListenConnectionIsLost(t *testing.T) {
	a, b, url := twoNodes(t)
	a.users("maya")
	k := a.phone("maya")
	s := a.join("maya").open()
	login := s.begins("maya", k)
	cutListen(t, a, url)
	b.must(b.answer(k, login, factor.Approve)) // whose notice nobody may have heard
	if got := s.answered(); got.GetId() != login.GetId() {
		t.Errorf("%v", got)
	}
}

func TestANodeThatWasTakenForDeadAttachesItsStreamsAgain(t *testing.T) {
	a, b, url := twoNodes(t)
	a.users("maya")
	k := a.phone("maya")
	d := a.join("maya")
	s := d.open()
	login := s.begins("maya", k)
	sql(t, url, `DELETE FROM streams`) // as the other nodes do
	cutListen(t, a, url)
	a.eventually("the stream is attached again", func() bool { return a.online()[d.id] == "a" })
	b.must(b.answer(k, login, factor.Approve))
	if got := s.answered(); got.GetId() != login.GetId() {
		t.Errorf("%v", got)
	}
}

// TestADeviceThatMovedUnheardIsNotTakenBack: the notice was lost, and the stream
// here is the one that is over.
func TestADeviceThatMovedUnheardIsNotTakenBack(t *testing.T) {
	a, b, url := twoNodes(t)
	a.users("maya")
	d, other := a.join("maya"), b.join("maya")
	s, there := d.open(), other.open() // b's heart beats
	s.synced(organisation.KindSettings, "")
	there.synced(organisation.KindSettings, "")
	sql(t, url, `UPDATE streams SET node = n.node, run = n.run FROM nodes n WHERE n.node = 'b' AND device = '`+d.id+`'`)
	cutListen(t, a, url)
	s.endsWith("replaced")
	if at := a.online()[d.id]; at != "b" {
		t.Errorf("the device is on %q", at)
	}
	there.alive()
}

func TestTheDatabaseIsGoneAndComesBack(t *testing.T) {
	server := storetest.PostgreSQL(t)
	w := newNode(t, storetest.Open(t, store.Options{PostgreSQL: server.URL(), Node: "a"}), makeKeys(t), new(clockwork))
	w.users("maya")
	k := w.phone("maya")
	d := w.join("maya")
	other := w.join("maya")
	s := d.open()
	s.synced(organisation.KindSettings, "")
	login := s.begins("maya", k)
	w.must(w.answer(k, login, factor.Approve))
	s.answered()

	server.Kill()
	s.probe(1)
	if got := s.next(); got.GetProbeReply().GetNonce() != 1 {
		t.Errorf("%v", got)
	}
	s.end(login.GetId(), "approved")
	again := s.request("maya", k)
	s.begin(again)
	if got := s.started(); got.GetId() != again.GetId() || got.GetRefused() != "authority_database_unavailable" {
		t.Errorf("%v", got)
	}
	// Nobody is told that an answer was taken.
	if err := w.push.Answer(w.ctx(), store.Approver{ID: "x"}, login.GetId(), k.Answer(login.GetChallenge(), factor.Deny, "")); err == nil {
		t.Error("an answer is taken without a database")
	}
	refusedWith(t, call(w.ctx(), other.client, "Connect"), codes.Unavailable)
	_, err := d.client.UploadEvents(w.ctx(), &authorityv1.UploadEventsRequest{VaultId: "v", Events: [][]byte{[]byte(`{"seq":1,"event":"x"}`)}})
	refusedWith(t, err, codes.Unavailable)
	s.alive()

	server.Start(t)
	// By itself: the stream that stayed works, and what the device had said holds.
	w.eventually("the end is on disk", func() bool {
		var c store.Challenge
		err := w.store.View(w.ctx(), func(tx store.Tx) (err error) {
			c, err = tx.Challenge(login.GetId())
			return err
		})
		return err == nil && c.Outcome == "approved"
	})
	login = s.begins("maya", k)
	w.must(w.answer(k, login, factor.Approve))
	if got := s.answered(); got.GetId() != login.GetId() {
		t.Errorf("%v", got)
	}
	other.open()
	if w.link.stream(d.id) == nil {
		t.Error("the stream did not stay")
	}
}
