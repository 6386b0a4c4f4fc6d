package factor_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/factor"
	"sallyport/internal/factor/onetime"
	"sallyport/internal/factor/totp"
	"sallyport/internal/secret"
)

func TestRightCodeLetsIn(t *testing.T) {
	w := enrolled(t)
	w.at("12:00:00").types(w.phone()).gets(allow).of(factor.TOTP)
	if !w.account.LastSuccess.Equal(w.real) {
		t.Errorf("the last success was %v", w.account.LastSuccess)
	}
	w.at("12:00:30").types(w.phone()).gets(allow)
	code := w.later(step).phone()
	w.types(" " + code[:3] + " " + code[3:] + "\t").gets(allow) // as apps show it
}

func TestTheSameCodeIsGoodOnce(t *testing.T) {
	w := enrolled(t)
	code := w.at("12:00:00").phone()
	w.types(code).gets(allow)
	w.types(code).gets(factor.AlreadyUsed).of(factor.TOTP).counted(0)
	w.at("12:00:29").types(code).gets(factor.AlreadyUsed).counted(0)
	w.at("12:00:59").types(code).gets(factor.AlreadyUsed).counted(0)
	w.at("12:01:00").types(code).gets(factor.WrongCode).counted(1) // outside the window
}

func TestAReplayIsNoFailureHoweverOften(t *testing.T) {
	w := enrolled(t)
	code := w.at("12:00:00").phone()
	w.types(code).gets(allow)
	for range 50 {
		w.types(code).gets(factor.AlreadyUsed).counted(0)
	}
}

func TestSetBackClockGivesNoCodeASecondLife(t *testing.T) {
	w := enrolled(t)
	code := w.at("12:00:00").phone()
	w.types(code).gets(allow)
	w.at("13:00:00").types(w.phone()).gets(allow)
	// An hour later somebody sets the clock to when the code was good.
	w.clockSet(-time.Hour).types(code).gets(factor.ClockWasAhead).counted(0)
	w.reboots().types(code).gets(factor.ClockWasAhead)
	// Nor are the codes good that nobody used then.
	w.types(hotp(w.seed, w.real.Add(w.clockOff).Unix()/30+1)).gets(factor.ClockWasAhead)
	// With the right time the phone is right again.
	w.clockSet(time.Hour).later(step).types(w.phone()).gets(allow)
}

// Somebody logs in while the computer's clock (and the phone, or whoever typed
// what it will show) is a week ahead. When the clock is right again, every right
// code is of a step before the used one, for a week: the person and the helpdesk
// must learn why, and it must not lock the person out on top.
func TestLoginUnderAClockThatWasAheadSaysSo(t *testing.T) {
	const week = 7 * 24 * time.Hour
	w := enrolled(t).at("12:00:00")
	if w.account.ClockWasAhead(w.now()) {
		t.Error("before the first login")
	}
	w.clockSet(week).phoneSet(week).types(w.phone()).gets(allow)
	if w.account.ClockWasAhead(w.now()) {
		t.Error("while the clock still is ahead")
	}
	w.clockSet(-week).phoneSet(-week).later(time.Minute)
	for range 30 { // whatever is typed: a guesser learns of no code that it would be right
		for _, code := range []string{w.phone(), w.phoneIn(1), w.wrong()} {
			w.types(code).gets(factor.ClockWasAhead).of(factor.TOTP).counted(0)
		}
	}
	if !w.account.ClockWasAhead(w.now()) {
		t.Error("nobody could tell")
	}
	w.types("password").gets(factor.Malformed)
	w.types(w.recovery[0]).gets(allow).of(factor.Recovery)
	w.types(w.bypass(time.Hour)).gets(allow).of(factor.Bypass)
	// The helpdesk's remedy: sallyport enroll USER --replace.
	w.enrol("another seed of 20 b").types(w.phone()).gets(allow)
	if w.account.ClockWasAhead(w.now()) {
		t.Error("after the remedy")
	}
	var nobody *factor.Account
	if nobody.ClockWasAhead(w.now()) || newWorld(t).account.ClockWasAhead(w.now()) {
		t.Error("of who has no secret")
	}
}

// A used step that a phone can be at, with the drift that is learnt, is no sign
// of a wrong clock.
func TestPhoneThatIsAheadIsNoClockThatWas(t *testing.T) {
	w := enrolled(t).at("12:00:00")
	for range 4 {
		w.later(10 * time.Minute).phoneSet(step).types(w.phone()).gets(allow)
	}
	w.types(w.phone()).gets(factor.AlreadyUsed)
	w.clockSet(-step).types(w.phone()).gets(factor.ClockWasAhead) // but one step more is
}

func TestSetForwardClockUsesUpNothingThatComes(t *testing.T) {
	w := enrolled(t)
	w.at("12:00:00").types(w.phone()).gets(allow)
	w.clockSet(6 * time.Hour).types(w.phone()).gets(factor.WrongCode)
	w.clockSet(-6 * time.Hour).later(step).types(w.phone()).gets(allow)
}

func TestCodesOfThePreviousAndTheNextStep(t *testing.T) {
	for _, steps := range []int64{-1, 0, 1} {
		w := enrolled(t).at("12:00:00")
		w.types(w.phoneIn(steps)).gets(allow)
	}
	for _, steps := range []int64{-3, -2, 2, 3} {
		w := enrolled(t).at("12:00:00")
		w.types(w.phoneIn(steps)).gets(factor.WrongCode).counted(1)
	}
	// After the next step's code neither this step's nor the previous one's.
	w := enrolled(t).at("12:00:00")
	w.types(w.phoneIn(1)).gets(allow)
	w.types(w.phoneIn(0)).gets(factor.AlreadyUsed)
	w.types(w.phoneIn(-1)).gets(factor.WrongCode) // the drift learnt is +1: it is outside
	w.at("12:00:30").types(w.phone()).gets(factor.AlreadyUsed)
	w.at("12:01:00").types(w.phone()).gets(allow)
}

func TestWindowEdges(t *testing.T) {
	for _, c := range []struct {
		at   string
		want factor.Reason
	}{
		{"11:59:29", factor.WrongCode}, // two steps early
		{"11:59:30", allow},            // one step early
		{"12:00:00", allow},
		{"12:00:29", allow},
		{"12:00:59", allow}, // the step after
		{"12:01:00", factor.WrongCode},
	} {
		w := enrolled(t)
		code := hotp(w.seed, midnight.Add(12*time.Hour).Unix()/30)
		w.at(c.at).types(code).gets(c.want)
	}
}

func TestDriftIsLearntAStepAtATimeUpToThree(t *testing.T) {
	for _, fast := range []time.Duration{step, -step} {
		w := enrolled(t).at("12:00:00")
		for ahead := 1; ahead <= 4; ahead++ {
			// The phone's clock runs away by a step between two logins.
			w.later(10 * time.Minute).phoneSet(fast).types(w.phone()).gets(allow)
			if got, want := w.account.TOTP.Drift, min(ahead, 3)*int(fast/step); got != want {
				t.Fatalf("%d steps off: learnt %d, want %d", ahead, got, want)
			}
		}
		// Four steps off is as far as it goes.
		w.later(10 * time.Minute).types(w.phone()).gets(allow)
		w.later(10 * time.Minute).phoneSet(fast).types(w.phone()).gets(factor.WrongCode).counted(1)
		// A phone that is set right at once is out of the window, as anyone
		// is who is more than a step from where the drift was learnt; step by
		// step it is followed back.
		w.phoneOff = 0
		w.later(10 * time.Minute).types(w.phone()).gets(factor.WrongCode).counted(2)
		for off := 3; off >= 0; off-- {
			w.phoneOff = time.Duration(off) * fast
			w.later(10 * time.Minute).types(w.phone()).gets(allow)
			if got := w.account.TOTP.Drift; got != off*int(fast/step) {
				t.Fatalf("back to %d steps: learnt %d", off, got)
			}
		}
	}
}

func TestAWrongCodeTeachesNoDrift(t *testing.T) {
	w := enrolled(t).at("12:00:00")
	w.phoneSet(2 * step).types(w.phone()).gets(factor.WrongCode)
	w.phoneSet(-step).types(w.phone()).gets(allow)
	if w.account.TOTP.Drift != 1 {
		t.Errorf("learnt %d", w.account.TOTP.Drift)
	}
}

func TestTenWrongCodesInARowLockForAQuarterOfAnHour(t *testing.T) {
	w := enrolled(t).at("12:00:00").locksItself(15 * time.Minute).counted(0)
	w.locked(15 * time.Minute)
	w.at("12:05:00").locked(10 * time.Minute)
	w.at("12:14:59").locked(time.Second)
	w.at("12:15:00").types(w.phone()).gets(allow)
}

func TestASuccessEndsTheRow(t *testing.T) {
	w := enrolled(t).at("12:00:00").typesWrongCodes(9).counted(9)
	w.types(w.phone()).gets(allow).counted(0)
	w.later(step).typesWrongCodes(9).counted(9)
	w.types(w.recovery[0]).gets(allow).counted(0)
	w.typesWrongCodes(9).types(w.bypass(time.Hour)).gets(allow).counted(0)
}

func TestTheRowHasNoTimeLimit(t *testing.T) {
	w := enrolled(t)
	for range 9 {
		w.later(26 * time.Hour).typesWrongCodes(1)
	}
	w.later(26 * time.Hour).types(w.wrong()).gets(factor.WrongCode)
	if !w.last.LockedNow {
		t.Error("ten wrong codes in ten days do not lock")
	}
}

func TestWhileLockedNothingIsCountedAndNothingExtends(t *testing.T) {
	w := enrolled(t).at("12:00:00").locksItself(15 * time.Minute)
	before := w.account.Lockout
	for range 30 {
		w.later(10 * time.Second).types(w.wrong()).gets(factor.Locked)
		w.types("ABCDE-FGHJK").gets(factor.WrongCode).of(factor.Recovery)
		w.types("1234-5678-9012").gets(factor.WrongCode).of(factor.Bypass)
		if w.last.LockedNow {
			t.Fatal("locked again")
		}
	}
	if w.account.Lockout != before {
		t.Errorf("%+v, it was %+v", w.account.Lockout, before)
	}
	// Nor does it learn or use up anything.
	code := w.at("12:14:59").phone()
	w.types(code).gets(factor.Locked)
	w.at("12:15:00").types(code).gets(allow)
}

func TestTheLockEndsByTheBootClock(t *testing.T) {
	w := enrolled(t).at("12:00:00").locksItself(15 * time.Minute)
	w.clockSet(24 * time.Hour).locked(15 * time.Minute) // setting the clock ends no lock
	w.clockSet(-48 * time.Hour).locked(15 * time.Minute)
	w.at("12:14:59").locked(time.Second)
	w.at("12:15:00").clockSet(24 * time.Hour).types(w.phone()).gets(allow)
}

func TestAfterARebootTheLockEndsByTheHighestTime(t *testing.T) {
	w := enrolled(t).at("12:00:00").locksItself(15 * time.Minute)
	w.at("12:05:00").reboots().locked(10 * time.Minute)
	// A clock that is set back after the reboot makes the lock no longer than
	// from the highest time seen.
	w.clockSet(-3 * time.Hour).locked(10 * time.Minute)
	w.clockSet(3 * time.Hour).at("12:15:00").types(w.phone()).gets(allow)

	w = enrolled(t).at("12:00:00").locksItself(15 * time.Minute)
	w.at("12:20:00").types("noticed").gets(factor.Malformed) // the vault has seen 12:20
	w.reboots().clockSet(-20 * time.Minute)
	if w.account.Lockout.Locked(w.now()) {
		t.Error("the lock is over, and setting the clock back brings it back")
	}
}

func TestLocksDoubleUpToADay(t *testing.T) {
	w := enrolled(t).at("12:00:00")
	for _, d := range []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour,
		8 * time.Hour, 16 * time.Hour, 24 * time.Hour, 24 * time.Hour, 24 * time.Hour} {
		w.locksItself(d).later(d - time.Second).locked(time.Second).later(time.Second)
	}
}

func TestASuccessDoesNotResetTheDoublingButADayOfCalmDoes(t *testing.T) {
	w := enrolled(t).at("12:00:00").locksItself(15 * time.Minute)
	w.at("12:15:00").types(w.phone()).gets(allow)
	w.at("12:16:00").locksItself(30 * time.Minute)
	w.at("12:46:00").types(w.recovery[0]).gets(allow)
	w.at("12:47:00").locksItself(time.Hour)
	// A day after the end of the lock, less a second.
	w.at("13:47:00").later(24*time.Hour - time.Second).locksItself(2 * time.Hour)
	w.later(2 * time.Hour).later(24 * time.Hour).locksItself(15 * time.Minute)
	// The same when a success comes first.
	w.later(15 * time.Minute).later(24 * time.Hour).types(w.phone()).gets(allow)
	w.locksItself(15 * time.Minute)
}

func TestUnlockEndsTheLockAndTheDoubling(t *testing.T) {
	w := enrolled(t).at("12:00:00").locksItself(15 * time.Minute)
	w.at("12:15:00").locksItself(30 * time.Minute)
	w.account.Lockout.Clear()
	w.types(w.phone()).gets(allow)
	w.locksItself(15 * time.Minute)
}

func TestRecoveryCodeAndBypassWorkWhileTOTPIsLocked(t *testing.T) {
	w := enrolled(t).at("12:00:00").locksItself(15 * time.Minute)
	w.types(w.recovery[3]).gets(allow).of(factor.Recovery)
	w.locked(15 * time.Minute) // which they do not end
	w.types(w.bypass(time.Hour)).gets(allow).of(factor.Bypass)
	w.locked(15 * time.Minute)
}

func TestWhatCannotBeACodeIsNotCounted(t *testing.T) {
	w := enrolled(t).at("12:00:00")
	for _, answer := range []string{"", " ", "-", "12345", "1234567", "12345678", "123456789", "12345678901", "1234567890123",
		"hunter2!", "correct horse battery staple", "12345a", "12345.", "+12345", "-12345a", "0x1234", "1e5000",
		"١٢٣٤٥٦", "12345\x00", "123456\x00", "\xff\xfe123456", "12345\n6",
		strings.Repeat("9", 10_000), "password", "ABCDE-FGHU", "ABCDE-FGHÖ"} {
		w.types(answer).gets(factor.Malformed).of("").counted(0)
	}
}

func TestEightDigitsAndOtherHashes(t *testing.T) {
	w := newWorld(t).at("00:00:59")
	// RFC 6238 appendix B, at 59 s.
	state, err := totp.FromSeed([]byte("12345678901234567890123456789012"), "SHA256", 8, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.account.TOTP = state
	w.real = time.Unix(59, 0)
	w.types("119246").gets(factor.Malformed).counted(0)
	w.types("46119246").gets(allow)
	w.types("46119246").gets(factor.AlreadyUsed)
}

func TestARecoveryCodeIsGoodOnce(t *testing.T) {
	w := enrolled(t).at("12:00:00")
	if len(w.recovery) != 10 {
		t.Fatalf("%d recovery codes", len(w.recovery))
	}
	for i, code := range w.recovery {
		w.types(code).gets(allow).of(factor.Recovery)
		w.types(code).gets(factor.WrongCode).of(factor.Recovery).counted(1)
		if left := len(w.account.Recovery); left != 9-i {
			t.Fatalf("%d left after %d", left, i+1)
		}
	}
}

func TestRecoveryCodesAsPeopleTypeThem(t *testing.T) {
	w := enrolled(t).at("12:00:00")
	misread := strings.NewReplacer("0", "O", "1", "l")
	typed := []func(string) string{
		strings.ToLower,
		func(c string) string { return strings.ReplaceAll(c, "-", "") },
		func(c string) string { return strings.ReplaceAll(c, "-", " ") },
		func(c string) string { return " " + c + " " },
		func(c string) string { return strings.Join(strings.Split(c, ""), "-") },
		func(c string) string { return strings.ReplaceAll(c, "0", "o") },
		func(c string) string { return strings.ReplaceAll(c, "1", "I") },
		func(c string) string { return strings.ReplaceAll(c, "1", "i") },
		misread.Replace,
		func(c string) string { return strings.ToLower(misread.Replace(c)) },
	}
	for i, f := range typed {
		w.types(f(w.recovery[i])).gets(allow)
	}
	// A code made of nothing but what is misread.
	w = enrolled(t)
	w.account.Recovery = []onetime.Hash{hashOf("uid:1000", "0101110100")}
	w.types("oIol1-LOioO").gets(allow)
}

// hashOf is what onetime keeps of a code, written again.
func hashOf(account, code string) onetime.Hash {
	mac := hmac.New(sha256.New, codeKey)
	mac.Write([]byte(account + "\x00" + code))
	return mac.Sum(nil)
}

func TestNewRecoveryCodesEndTheOldOnes(t *testing.T) {
	w := enrolled(t)
	old := w.recovery[0]
	w.enrol("another seed of 20 b")
	w.types(old).gets(factor.WrongCode)
	w.types(w.recovery[0]).gets(allow)
}

func TestABypassIsGoodOnce(t *testing.T) {
	w := enrolled(t).at("12:00:00")
	code := w.bypass(time.Hour)
	w.at("12:59:59").types(code).gets(allow).of(factor.Bypass)
	w.types(code).gets(factor.WrongCode).counted(1)
}

func TestANewBypassEndsTheOldOne(t *testing.T) {
	w := enrolled(t)
	old := w.bypass(time.Hour)
	fresh := w.bypass(time.Hour)
	w.types(old).gets(factor.WrongCode)
	w.types(strings.ReplaceAll(fresh, "-", " ")).gets(allow)
}

func TestAnExpiredBypassIsRefusedAndUsedUp(t *testing.T) {
	w := enrolled(t).at("12:00:00")
	code := w.bypass(time.Hour)
	w.at("13:00:00").types(code).gets(factor.Expired).of(factor.Bypass).counted(0)
	if w.account.Bypass != nil {
		t.Error("it is still there")
	}
	w.types(code).gets(factor.WrongCode)

	// Setting the clock back gives it no longer life, in this boot or the next.
	code = w.bypass(time.Hour)
	w.at("14:00:00").clockSet(-2 * time.Hour).types(code).gets(factor.Expired)
	w.clockSet(2 * time.Hour)
	code = w.bypass(time.Hour)
	w.at("15:00:00").types("noticed").gets(factor.Malformed)
	w.reboots().clockSet(-2 * time.Hour).types(code).gets(factor.Expired)
}

// A clock that was once ten years ahead leaves a highest time behind, and what
// is set under it ends in ten years. The helpdesk clears that time.
func TestWhatWasSetUnderABogusTimeDoesNotOutliveIt(t *testing.T) {
	const years = 10 * 365 * 24 * time.Hour
	bogus := func() *world {
		w := enrolled(t).at("12:00:00").clockSet(years).types("noticed").gets(factor.Malformed)
		return w.clockSet(-years)
	}
	w := bogus()
	code := w.bypass(time.Hour)
	w.highest = w.real // cleared
	w.at("12:59:59").types("noticed").gets(factor.Malformed)
	w.reboots().at("13:30:00").types(code).gets(factor.Expired)

	w = bogus().locksItself(15 * time.Minute)
	w.highest = w.real
	w.at("12:14:59").locked(time.Second) // in the same boot it stands
	w.reboots().at("12:20:00").types(w.phone()).gets(allow)

	// Without a reboot all of it lasts as long as it should.
	w = bogus()
	code = w.bypass(time.Hour)
	w.highest = w.real
	w.at("12:59:59").types(code).gets(allow)
}

func TestABypassIssuedWhileTheClockIsBehindLastsItsTime(t *testing.T) {
	w := enrolled(t).at("12:00:00").types("noticed").gets(factor.Malformed)
	w.clockSet(-5 * time.Hour)
	code := w.bypass(time.Hour)
	w.at("12:59:59").types(code).gets(allow)
	code = w.bypass(time.Hour)
	w.reboots().later(time.Hour).clockSet(5 * time.Hour).types(code).gets(factor.Expired)
}

func TestHashesAreBoundToTheirAccount(t *testing.T) {
	alice := enrolled(t)
	bypass := alice.bypass(time.Hour)
	mallory := enrolled(t)
	mallory.account.Key = "uid:1001"
	mallory.account.Recovery = alice.account.Recovery
	mallory.account.Bypass = alice.account.Bypass
	mallory.types(alice.recovery[0]).gets(factor.WrongCode)
	mallory.types(bypass).gets(factor.WrongCode)
	if mallory.account.Bypass == nil || len(mallory.account.Recovery) != 10 {
		t.Error("used up all the same")
	}
	alice.types(alice.recovery[0]).gets(allow)
	alice.types(bypass).gets(allow)
}

func TestWithoutTheCodeKeyNoHashIsWorthAnything(t *testing.T) {
	w := enrolled(t)
	o := factor.Check(w.account, secret.New(w.recovery[0]), w.now(), nil)
	if o.OK {
		t.Error("taken under an empty key")
	}
}

func TestNobodyIsLetInWithoutARecord(t *testing.T) {
	for _, answer := range []string{"", "123456", "12345678", "1234-5678-9012", "ABCDE-FGHJK", "hunter2"} {
		if o := factor.Check(nil, secret.New(answer), clock.Instant{Wall: midnight}, codeKey); o != (factor.Outcome{Reason: factor.NotEnrolled}) {
			t.Errorf("%q: %+v", answer, o)
		}
		w := newWorld(t).types(answer)
		if w.last.OK {
			t.Errorf("%q lets in an account with no factor", answer)
		}
	}
	// Nobody is locked out whom nothing could have let in, save by guesses at
	// codes the helpdesk may have issued.
	newWorld(t).types("123456").gets(factor.NotEnrolled).counted(0)
	// And a bypass works for who is required but not enrolled yet.
	w := newWorld(t)
	w.types(w.bypass(time.Hour)).gets(allow).of(factor.Bypass)
}

func TestIsEnrolled(t *testing.T) {
	var none *factor.Account
	if none.IsEnrolled() || none.EnrolmentOpen(clock.Instant{Wall: midnight}) {
		t.Error("nobody is enrolled, or may enrol")
	}
	w := newWorld(t)
	w.bypass(time.Hour)
	if w.account.IsEnrolled() {
		t.Error("a bypass enrols")
	}
	if !w.enrol("12345678901234567890").account.IsEnrolled() {
		t.Error("enrolling does not enrol")
	}
}

func TestEnrolmentStartsAfresh(t *testing.T) {
	w := enrolled(t).at("12:00:00").locksItself(15 * time.Minute)
	w.account.Enrolment = &factor.Enrolment{Expires: w.now().In(time.Hour)}
	w.enrol("another seed of 20 b").types(w.phone()).gets(allow)
	if w.account.Enrolment != nil || !w.account.Enrolled.Equal(w.real) {
		t.Errorf("window %v, enrolled %v", w.account.Enrolment != nil, w.account.Enrolled)
	}
}

// opened has a window to enrol in, for an hour, behind a code.
func opened(t *testing.T) (*world, string) {
	t.Helper()
	w := newWorld(t).at("12:00:00")
	until := w.now().In(time.Hour)
	code, spoken, err := onetime.NewSpoken(codeKey, w.account.Key, until)
	if err != nil {
		t.Fatal(err)
	}
	w.account.Enrolment = &factor.Enrolment{Expires: until, Code: spoken}
	return w, code
}

// typesToEnrol answers the prompt for the one-time code to enrol with.
func (w *world) typesToEnrol(answer string) *world {
	w.Helper()
	w.throughJSON()
	w.last = factor.CheckEnrolmentCode(w.account, secret.New(answer), w.now(), codeKey)
	return w
}

func TestARightEnrolmentCodeClosesTheWindowForOthers(t *testing.T) {
	w, code := opened(t)
	if !w.account.EnrolmentOpen(w.now()) {
		t.Fatal("it is not open")
	}
	w.typesToEnrol(code).gets(allow)
	if w.account.EnrolmentOpen(w.now()) {
		t.Error("it is still open")
	}
	w.typesToEnrol(code).gets(factor.Expired)
}

// Between the right code and the confirmed secret minutes go by, in which the
// helpdesk may notice that it read the code out to the wrong person.
func TestClosedWindowStopsTheLoginThatClaimedIt(t *testing.T) {
	w, code := opened(t)
	may := func(claimed, other bool) {
		t.Helper()
		w.throughJSON()
		if got := w.account.MayConfirm(true, w.now()); got != claimed {
			t.Errorf("at %s the login that typed the code may confirm: %v", w.real.Format(time.TimeOnly), got)
		}
		if got := w.account.MayConfirm(false, w.now()); got != other {
			t.Errorf("at %s another login may confirm: %v", w.real.Format(time.TimeOnly), got)
		}
	}
	may(false, true) // nobody has typed the code; without one the window is for all
	w.typesToEnrol("000000000000").gets(factor.WrongCode)
	may(false, true)
	w.typesToEnrol(code).gets(allow)
	may(true, false)
	w.at("13:00:01") // the window has ended meanwhile: who has begun may finish
	may(true, false)
	w.account.Enrolment = nil // sallyport enrolment close
	may(false, false)

	w, code = opened(t)
	w.typesToEnrol(code).gets(allow)
	w.account.Enrolment = &factor.Enrolment{Expires: w.now().In(time.Hour)} // opened anew, for somebody else
	may(false, true)
	w.at("13:00:00")
	may(false, false)

	w, code = opened(t)
	w.typesToEnrol(code).gets(allow)
	w.enrol("12345678901234567890") // enrolled meanwhile
	may(false, false)
	var nobody *factor.Account
	if nobody.MayConfirm(true, w.now()) || nobody.MayConfirm(false, w.now()) {
		t.Error("nobody may confirm")
	}
}

// The helpdesk issued a bypass for a phone at home, which then turns out to be
// stolen with the note it was written on.
func TestReplacedSecretEndsAnOutstandingBypass(t *testing.T) {
	for name, replace := range map[string]func(*world){
		"enrolled": func(w *world) { w.enrol("another seed of 20 b") },
		"imported": func(w *world) {
			state, err := totp.FromSeed([]byte("another seed of 20 b"), "", 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			w.account.SetSecret(state, w.now())
		},
	} {
		w := enrolled(t).at("12:00:00").locksItself(15 * time.Minute)
		code := w.bypass(time.Hour)
		w.account.Enrolment = &factor.Enrolment{Expires: w.now().In(time.Hour)}
		replace(w)
		if w.account.Bypass != nil || w.account.Enrolment != nil || w.account.Lockout != (factor.Lockout{}) || !w.account.Enrolled.Equal(w.real) {
			t.Errorf("%s: bypass %v, window %v, lockout %+v", name, w.account.Bypass != nil, w.account.Enrolment != nil, w.account.Lockout)
		}
		w.types(code).gets(factor.WrongCode).of(factor.Bypass)
	}
	// The first secret replaces none: the bypass was for the way to it.
	w := newWorld(t)
	code := w.bypass(time.Hour)
	w.enrol("12345678901234567890").types(code).gets(allow).of(factor.Bypass)
}

func TestFiveWrongEnrolmentCodesCloseTheWindow(t *testing.T) {
	wrong := []string{"000000000000", "", "hunter2", "123456", "ABCDE-FGHJK"}
	w, code := opened(t)
	for _, answer := range wrong[:4] {
		w.typesToEnrol(answer).gets(factor.WrongCode).counted(0)
	}
	w.typesToEnrol(strings.ReplaceAll(code, "-", "")).gets(allow) // the fifth may still be right
	w, code = opened(t)
	for _, answer := range wrong {
		w.typesToEnrol(answer).gets(factor.WrongCode)
	}
	w.typesToEnrol(code).gets(factor.Expired)
}

func TestAnEnrolmentCodeExpires(t *testing.T) {
	w, code := opened(t)
	w.at("13:00:00").typesToEnrol(code).gets(factor.Expired)
	w, code = opened(t)
	w.at("13:00:00").clockSet(-time.Hour).typesToEnrol(code).gets(factor.Expired)
}

func TestAnEnrolmentCodeIsNoBypassAndTheOtherWayRound(t *testing.T) {
	w, code := opened(t)
	w.types(code).gets(factor.WrongCode)
	w.typesToEnrol(w.bypass(time.Hour)).gets(factor.WrongCode)
	// A window without a code takes none, whatever is typed.
	w.account.Enrolment.Code = nil
	w.typesToEnrol(code).gets(factor.Expired)
	w.typesToEnrol("").gets(factor.Expired)
	w.account.Enrolment = nil
	w.typesToEnrol(code).gets(factor.Expired)
}

func TestTheZeroOutcomeLetsNobodyIn(t *testing.T) {
	if (factor.Outcome{}).OK {
		t.Error("it does")
	}
}

func TestNothingPrintsAnAccountsSecrets(t *testing.T) {
	const canary = "CANARYcanaryCANARYca"
	w := newWorld(t)
	w.enrol(canary)
	bypass := w.bypass(time.Hour)
	w.account.Enrolment = &factor.Enrolment{Expires: w.now().In(time.Hour), Code: w.account.Bypass}
	a := w.account
	var out bytes.Buffer
	for _, v := range []any{a, *a, []factor.Account{*a}, []*factor.Account{a}, struct{ A factor.Account }{*a}, map[string]factor.Account{"a": *a}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, v := range []any{a, *a, a.TOTP, *a.TOTP, a.TOTP.Seed} {
		for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
			slog.New(h).Info("x", "v", v, slog.Group("g", "v", v))
			slog.New(h).With("v", v).WithGroup("g").Error("x", slog.Any("", v))
		}
	}
	leaks := []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprint([]byte(canary)), a.TOTP.SeedText(),
		base64.StdEncoding.EncodeToString([]byte(canary)), fmt.Sprintf("%#v", []byte(canary))}
	for _, h := range append(a.Recovery, a.Bypass.Hash) {
		leaks = append(leaks, string(h), fmt.Sprintf("%x", []byte(h)), fmt.Sprintf("%X", []byte(h)), fmt.Sprint([]byte(h)), base64.StdEncoding.EncodeToString(h))
	}
	for _, code := range append(w.recovery, bypass) {
		leaks = append(leaks, code, strings.ReplaceAll(code, "-", ""))
	}
	for line := range strings.Lines(out.String()) {
		for _, leak := range leaks {
			if strings.Contains(line, leak) {
				t.Errorf("printed: %s", line)
			}
		}
	}
	if !strings.Contains(out.String(), "uid:1000") {
		t.Error("an account in a log is not told from another")
	}
	// The vault gets it all.
	b, err := json.Marshal(a)
	if err != nil || !bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString([]byte(canary)))) {
		t.Errorf("the seed is not in the record: %v", err)
	}
}
