package eventsout

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"

	"sallyport/internal/event"
)

func TestCSV(t *testing.T) {
	var b bytes.Buffer
	c := NewCSV(&b)
	ok(t, c.Header())
	ok(t, c.Write(record(t, event.Event{Seq: 7, Name: event.LoginAttempt, User: "maya", Verdict: "deny", Text: `she said "no", twice`})))
	ok(t, c.Flush())
	want := "id,time,kept,device,device_name,vault_id,seq,event,user,key,hook,service,scenario,remote,session,verdict,reason,factor,rule,by,text\r\n" +
		`d1/v1/7,2026-11-22T12:00:00.123456789Z,2026-11-22T12:00:01.123456789Z,d1,laptop-17,v1,7,login_attempt,maya,,,,,,,deny,,,,,"she said ""no"", twice"` + "\r\n"
	if b.String() != want {
		t.Errorf("%q\nwant\n%q", b.String(), want)
	}
}

// HAZARD: a user name that a spreadsheet takes for a formula (CWE-1236).
func TestNoCellIsAFormula(t *testing.T) {
	for _, s := range []string{"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1", "\n=1", "\ufeff=1", "\u00a0=1", "＝1", "＋1", "－1", "＠x", `=HYPERLINK("https://example.com")`, "'=1", "\x00=1"} {
		var b bytes.Buffer
		c := NewCSV(&b)
		ok(t, c.Write(record(t, event.Event{Name: event.LoginAttempt, User: s, Text: "x;" + s})))
		ok(t, c.Flush())
		row, err := csv.NewReader(&b).Read()
		ok(t, err)
		if !strings.HasPrefix(row[8], "'") || strings.ContainsAny(row[8], "\r\n\t\x00") {
			t.Errorf("%q became %q", s, row[8])
		}
	}
	for _, s := range []string{"maya", "a=b", "ACME\\maya", "maya@example.com", "1", "O'Brien", ""} {
		if got := harmless(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
}
