package explain

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/certbound/certbound/decision"
)

func TestCompare(t *testing.T) {
	pass := func(names ...string) (out []decision.Check) {
		for _, n := range names {
			out = append(out, decision.Check{Name: n, Outcome: decision.Passed})
		}
		return out
	}
	fail := decision.Check{Name: decision.CheckChain, Reason: decision.Expired}
	const allowed = `{"time":"2027-01-10T12:00:00Z","request_id":"a","outcome":"allowed","route":"orders","x5t#S256":"x"}`
	refused := func(name string) string {
		return `{"request_id":"a","outcome":"refused","decision":{"allowed":false,"checks":[{"check":"` + name + `","outcome":"failed","reason":"expired"}]}}`
	}
	for _, tt := range []struct {
		name, line   string
		today        []decision.Check
		missing      string
		now, outcome string
	}{
		{"allowed, and still", allowed, pass("route", "chain"), "", "allowed", ReplaySame},
		{"allowed, and the CA is gone", allowed, []decision.Check{fail}, "", "refused", ReplayDiffers},
		{"allowed, without evidence", allowed, pass("route"), "no evidence", "unknown", ReplayCannot},
		{"refused, and still", refused("chain"), []decision.Check{fail}, "", "refused", ReplaySame},
		{"refused, and for another reason", refused("chain"), []decision.Check{{Name: "route", Reason: decision.RouteUnknown}}, "", "refused", ReplayOtherReason},
		{"refused, and for that reason among others", refused("chain"), []decision.Check{{Name: "route", Reason: decision.RouteUnknown}, fail}, "", "refused", ReplaySame},
		{"refused, and the CA is there", refused("chain"), pass("chain"), "", "allowed", ReplayDiffers},
		{"refused for the token", refused("token"), pass("route", "chain"), "", "unknown", ReplayCannot},
		{"refused for the token, and the route is gone", refused("token"), []decision.Check{{Name: "route"}}, "", "refused", ReplaySame},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := ParseLogLine([]byte(tt.line))
			if err != nil {
				t.Fatal(err)
			}
			r := Compare(t.Context(), l, tt.today, tt.missing)
			if r.Now != tt.now || r.Result != tt.outcome {
				t.Errorf("now %s, %s; expected %s, %s: %+v", r.Now, r.Result, tt.now, tt.outcome, r.Checks)
			}
		})
	}
}

// No line makes the parser panic, and errors are those that are declared.
func FuzzLogLine(f *testing.F) {
	for _, s := range []string{
		`{"outcome":"allowed","route":"orders","x5t#S256":"x","chain":["a"]}`, `x {"decision":{"checks":[{"check":"chain","outcome":"failed"}]}}`,
		`{`, ``, `{"decision":{}}`, "{}\n{}", `{"outcome":"refused","route":"r"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		l, err := ParseLogLine(line)
		if err != nil {
			if _, ok := errors.AsType[*LogLineError](err); !ok || l != nil {
				t.Fatalf("%v beside %v", l, err)
			}
			return
		}
		r := Compare(t.Context(), l, nil, "")
		if _, err := json.Marshal(r); err != nil || r.Result == "" {
			t.Fatalf("%v: %+v", err, r)
		}
	})
}
