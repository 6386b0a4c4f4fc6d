package phone

import "testing"

func TestEveryPhoneIsItsOwn(t *testing.T) {
	a, b := New("https://localhost:1", "A"), New("https://localhost:1", "B")
	if string(a.Token) == string(b.Token) || string(a.Key.ID) == string(b.Key.ID) {
		t.Error("two phones have one session or one passkey")
	}
	if a.Key.RP.ID != "localhost" || a.Key.RP.Origin != "https://localhost:1" {
		t.Errorf("the relying party is %+v", a.Key.RP)
	}
}
