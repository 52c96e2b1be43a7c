package explain

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/certbound/certbound/decision"
)

// A LogLine is a record of a decision from the JSON log of the server or of the gateway.
// Everything in it may be made up by whoever wrote the log.
type LogLine struct {
	Time       time.Time          `json:"time"`
	ID         string             `json:"request_id"`
	Endpoint   string             `json:"endpoint"` // of the server; empty for the gateway
	Route      string             `json:"route"`
	Method     string             `json:"method"`
	Host       string             `json:"host"`
	Path       string             `json:"path"`
	Outcome    string             `json:"outcome"`
	ClientID   string             `json:"client_id"`
	Thumbprint string             `json:"x5t#S256"`
	Chain      []string           `json:"chain"` // digests of what came with the certificate
	Decision   *decision.Decision `json:"decision"`
}

// A LogLineError reports text that is no record of a decision.
type LogLineError struct{ Expected, Found string }

func (e *LogLineError) Error() string {
	return fmt.Sprintf("explain: log line: expected %s, found %s", e.Expected, e.Found)
}

// ParseLogLine reads one line of a JSON log; a collector may have put something in front.
// Errors are of type *[LogLineError].
func ParseLogLine(line []byte) (*LogLine, error) {
	if len(line) > maxLine {
		return nil, &LogLineError{fmt.Sprintf("at most %d bytes", maxLine), fmt.Sprintf("%d", len(line))}
	}
	line = bytes.TrimSpace(line)
	i := bytes.IndexByte(line, '{')
	if i < 0 {
		return nil, &LogLineError{"a line of the JSON log (log.format: json)", "no JSON object"}
	}
	if bytes.IndexByte(line, '\n') >= 0 {
		return nil, &LogLineError{"one line", "several"}
	}
	l := &LogLine{}
	if err := json.Unmarshal(line[i:], l); err != nil {
		return nil, &LogLineError{"a record of a decision", "JSON that is none: " + clip(err.Error(), 200)}
	}
	if d := l.Decision; d != nil {
		if len(d.Checks) == 0 {
			return nil, &LogLineError{"a decision with its checks", "none of them"}
		}
		l.ClientID, l.Thumbprint = first(l.ClientID, d.ClientID), first(l.Thumbprint, d.Thumbprint)
		if _, failed := d.Failure(); failed {
			d.Allowed = false
		}
	} else if l.Route == "" || l.Outcome == "refused" {
		return nil, &LogLineError{"a record of a request: with a decision, or with the route of an allowed one", "neither"}
	}
	return l, nil
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Allowed reports what was decided then. A request that was allowed and did not come to a
// good end was allowed.
func (l *LogLine) Allowed() bool { return l.Decision == nil || l.Decision.Allowed }

// then returns a check of then, by name.
func (l *LogLine) then(name string) (decision.Check, bool) {
	if l.Decision == nil {
		return decision.Check{}, false
	}
	i := slices.IndexFunc(l.Decision.Checks, func(c decision.Check) bool { return c.Name == name })
	if i < 0 {
		return decision.Check{}, false
	}
	return l.Decision.Checks[i], true
}

// Results of a replay.
const (
	ReplaySame        = "same"         // today the outcome is that of then
	ReplayOtherReason = "other_reason" // refused as then, and for another reason
	ReplayDiffers     = "differs"      // today the outcome is another one
	ReplayCannot      = "cannot"       // what decided then cannot be judged again
)

// A Replay holds a decision of the log against what is decided today.
type Replay struct {
	RequestID string    `json:"request_id,omitempty"`
	Time      time.Time `json:"time,omitzero"`
	Then      string    `json:"then"` // allowed or refused
	Now       string    `json:"now"`  // the same, or unknown
	// ThenReason and NowReason say why it was refused, and is, if that is known.
	ThenReason decision.Reason `json:"then_reason,omitempty"`
	NowReason  decision.Reason `json:"now_reason,omitempty"`
	Result     string          `json:"result"`
	Checks     []ReplayRow     `json:"checks"`
	// Notes say what could not be judged again, and why.
	Notes []string `json:"notes,omitempty"`
}

// A ReplayRow is one check then and now. Empty is: not made, or not in the record.
type ReplayRow struct {
	Check string `json:"check"`
	Then  string `json:"then,omitempty"`
	Now   string `json:"now,omitempty"`
	Why   string `json:"why,omitempty"` // it cannot be replayed, or failed
}

// unreplayed says why a check that stands in a record cannot be made again.
var unreplayed = map[string]string{
	decision.CheckToken:     "the token is never kept, so that its signature and its dates cannot be checked again",
	decision.CheckBinding:   "the token is never kept; the record has the outcome of then",
	decision.CheckIssuer:    "the token is never kept",
	decision.CheckAudience:  "the token is never kept",
	decision.CheckScope:     "the token is never kept",
	decision.CheckSource:    "the header of the request is not kept, only the certificate that came out of it",
	decision.CheckSecret:    "secrets are never kept",
	decision.CheckAssertion: "assertions are never kept",
	decision.CheckGrant:     "the form of the request is not kept",
}

// Compare holds a record against checks of today. today are those that could be made;
// missing, if set, is why those of the certificate could not.
func Compare(_ context.Context, l *LogLine, today []decision.Check, missing string) *Replay {
	r := &Replay{RequestID: l.ID, Time: l.Time, Then: "allowed", Now: "unknown", Checks: []ReplayRow{}}
	if !l.Allowed() {
		r.Then = "refused"
	}
	made := map[string]decision.Check{}
	for _, c := range today {
		if _, ok := made[c.Name]; !ok || c.Outcome == decision.Failed {
			made[c.Name] = c
		}
	}
	refusedToday := slices.ContainsFunc(today, func(c decision.Check) bool { return c.Outcome == decision.Failed })
	row := func(name string) {
		if slices.ContainsFunc(r.Checks, func(x ReplayRow) bool { return x.Check == name }) {
			return
		}
		x := ReplayRow{Check: name}
		if c, ok := l.then(name); ok {
			x.Then = outcomeText(c)
		}
		if c, ok := made[name]; ok && c.Outcome != decision.Skipped {
			x.Now = outcomeText(c)
			if c.Outcome == decision.Failed {
				x.Why = c.Found
			}
		} else if ok {
			x.Why = c.Found
		} else if x.Why = unreplayed[name]; x.Why == "" {
			x.Why = first(missing, "today's configuration does not ask for it")
			if missing == "" && refusedToday {
				x.Why = "not reached: another check refuses today"
			}
		}
		r.Checks = append(r.Checks, x)
	}
	if l.Decision != nil {
		for _, c := range l.Decision.Checks {
			row(c.Name)
		}
	}
	failed, sameReason := false, false
	cause := decision.Check{}
	if l.Decision != nil {
		cause, _ = l.Decision.Failure()
	}
	r.ThenReason = cause.Reason
	for _, c := range today {
		row(c.Name)
		if c.Outcome != decision.Failed {
			continue
		}
		// The first failure is the answer of today; that of then may stand beside it.
		if failed = true; r.NowReason == "" {
			r.NowReason = c.Reason
		}
		sameReason = sameReason || c.Reason == cause.Reason
	}
	if sameReason {
		r.NowReason = cause.Reason
	}
	if missing != "" {
		r.Notes = append(r.Notes, "the checks of the certificate cannot be replayed: "+missing)
	}
	again, replayed := made[cause.Name]
	switch {
	case failed:
		r.Now = "refused"
	case l.Allowed() && missing == "":
		r.Now = "allowed"
	case !l.Allowed() && replayed && again.Outcome == decision.Passed:
		r.Now = "allowed"
		r.Notes = append(r.Notes, "the check that refused passes today; those after it were not made then")
	}
	switch r.Now {
	case "unknown":
		r.Result = ReplayCannot
	case r.Then:
		r.Result = ReplaySame
		if r.ThenReason != "" && r.NowReason != "" && r.ThenReason != r.NowReason {
			r.Result = ReplayOtherReason
		}
	default:
		r.Result = ReplayDiffers
	}
	return r
}

func outcomeText(c decision.Check) string {
	if c.Reason != "" {
		return c.Outcome.String() + ": " + string(c.Reason)
	}
	return c.Outcome.String()
}
