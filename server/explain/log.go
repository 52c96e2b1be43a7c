package explain

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/certbound/certbound/decision"
)

// maxLine bounds a line of a log.
const maxLine = 1 << 20

// ErrNoRecord reports a log without the request.
var ErrNoRecord = errors.New("explain: log: no refusal with this request id")

// A Record is a refusal as it stands in the log of the server.
type Record struct {
	ID       string
	Time     time.Time
	Endpoint string
	Status   int
	Error    string // the OAuth error code
	Decision *decision.Decision
	Notes    []string
}

// FindRecord reads a log, JSON or text, and returns the refusal with the request id; if
// there are several, the last. Lines of others are passed over. Errors are [ErrNoRecord],
// or those of r.
func FindRecord(r io.Reader, id string) (*Record, error) {
	var found *Record
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(lines)
		if strings.Contains(line, id) && id != "" {
			if rec := parseRecord(line); rec != nil && rec.ID == id {
				found = rec
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("explain: log: %w", err)
		}
	}
	if found == nil {
		return nil, ErrNoRecord
	}
	return found, nil
}

// readLine returns a line; what is longer than maxLine is passed over and comes out empty.
func readLine(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		part, err := r.ReadSlice('\n')
		if b.Len()+len(part) <= maxLine {
			b.Write(part)
		} else {
			b.Reset()
			for err == bufio.ErrBufferFull {
				_, err = r.ReadSlice('\n')
			}
			return "", err
		}
		if err != bufio.ErrBufferFull {
			return strings.TrimRight(b.String(), "\r\n"), err
		}
	}
}

// parseRecord returns nil for a line that is no refusal.
func parseRecord(line string) *Record {
	// A collector may have put a prefix before the record.
	if i := strings.IndexByte(line, '{'); i >= 0 {
		if rec := parseJSONRecord(line[i:]); rec != nil {
			return rec
		}
	}
	return parseTextRecord(line)
}

func parseJSONRecord(line string) *Record {
	var raw struct {
		Time     time.Time       `json:"time"`
		ID       string          `json:"request_id"`
		Endpoint string          `json:"endpoint"`
		Status   int             `json:"status"`
		Error    string          `json:"error"`
		Decision json.RawMessage `json:"decision"`
	}
	if json.Unmarshal([]byte(line), &raw) != nil || raw.ID == "" || len(raw.Decision) == 0 {
		return nil
	}
	rec := &Record{ID: raw.ID, Time: raw.Time, Endpoint: raw.Endpoint, Status: raw.Status, Error: raw.Error}
	d := new(decision.Decision)
	if json.Unmarshal(raw.Decision, d) == nil && len(d.Checks) > 0 {
		d.Allowed = false
		rec.Decision = d
		return rec
	}
	flat := map[string]any{}
	if json.Unmarshal(raw.Decision, &flat) != nil {
		return nil
	}
	rec.fill(func(key string) string { s, _ := flat[key].(string); return s })
	return rec
}

// parseTextRecord reads what slog.TextHandler writes.
func parseTextRecord(line string) *Record {
	values := map[string]string{}
	for rest := line; rest != ""; {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			break
		}
		key = key[strings.LastIndexByte(key, ' ')+1:]
		var value string
		if strings.HasPrefix(after, `"`) {
			quoted, err := strconv.QuotedPrefix(after)
			if err != nil {
				break
			}
			value, _ = strconv.Unquote(quoted)
			rest = strings.TrimPrefix(after[len(quoted):], " ")
		} else {
			value, rest, _ = strings.Cut(after, " ")
		}
		values[key] = value
	}
	rec := &Record{ID: values["request_id"], Endpoint: values["endpoint"], Error: values["error"]}
	if rec.ID == "" || values["decision.allowed"] == "" {
		return nil
	}
	rec.Time, _ = time.Parse(time.RFC3339Nano, values["time"])
	rec.Status, _ = strconv.Atoi(values["status"])
	rec.fill(func(key string) string { return values["decision."+key] })
	rec.Notes = append(rec.Notes, "a log as text holds only the check that failed; log.format: json keeps all")
	return rec
}

// fill makes a decision of the one check that stands in the record by itself.
func (rec *Record) fill(value func(string) string) {
	d := decision.New()
	d.ClientID, d.Method, d.Thumbprint = value("client_id"), value("method"), value("x5t#S256")
	d.Subject, d.Via, d.Peer = value("subject"), value("via"), value("peer")
	if value("check") != "" || value("reason") != "" {
		d.Fail(decision.Check{
			Name: value("check"), Rule: value("rule"), Reason: decision.Reason(value("reason")),
			Expected: value("expected"), Found: value("found"), Fix: value("fix"),
		})
	}
	if reason := value("warning"); reason != "" {
		d.Warnings = append(d.Warnings, decision.Check{Name: decision.CheckSource, Reason: decision.Reason(reason), Found: value("warning_found")})
	}
	rec.Decision = d
}
