package main

import (
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
)

// After 'keys rotate' the list said of the key before that it signs until its own time
// is over, and that of another algorithm takes nothing over.
func TestKeyRowsAfterRotation(t *testing.T) {
	now := time.Date(2027, 1, 10, 12, 0, 0, 0, time.UTC)
	at := func(days int) time.Time { return now.AddDate(0, 0, days) }
	rows := keyRows([]authserver.SigningKey{
		{KID: "old", Alg: "ES256", NotBefore: at(-3), Retire: at(27)},
		{KID: "forever", Alg: "EdDSA", NotBefore: at(-2)},
		{KID: "next", Alg: "ES256", NotBefore: at(1), Retire: at(31)},
		{KID: "after", Alg: "ES256", NotBefore: at(60)},
	}, now)
	want := map[string]time.Time{"old": at(1), "forever": {}, "next": at(31), "after": {}}
	for _, r := range rows {
		if !r.Retire.Equal(want[r.KID]) {
			t.Errorf("%s signs until %v, want %v", r.KID, r.Retire, want[r.KID])
		}
	}
	if rows[0].KID != "after" || rows[1].State != "next" || rows[3].Retire != at(1) {
		t.Errorf("rows are %+v", rows)
	}
}
