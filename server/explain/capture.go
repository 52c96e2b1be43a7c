package explain

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"github.com/certbound/certbound/certsource"
)

// Limits of a captured request.
const (
	maxCapture = 4 << 20
	maxFields  = 1000
)

// A Capture is a request as somebody has written it down.
type Capture struct {
	// Fields are the header fields in their order, as they were spelled.
	Fields []Field
	Host   string
	// ClientID is that of a form body, if there was one.
	ClientID string
	// Peer is who sent it: "192.0.2.1:443", or "unix". If empty, it is taken for the
	// trusted proxy.
	Peer string
}

// A Field is a header field.
type Field struct {
	Name, Value string
	Line        int
	// Lines is the number of lines that the value was written over.
	Lines int
}

// A CaptureError reports text that is not a request.
type CaptureError struct {
	Line  int // from 1; 0 means the whole text
	Fault string
}

func (e *CaptureError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("explain: captured request: line %d: %s", e.Line, e.Fault)
	}
	return "explain: captured request: " + e.Fault
}

// ParseCapture reads a captured request: the head as it goes over the wire, with or
// without the first line, the body behind it or not; the same as curl -v prints it, with
// "> " in front; only header lines; or JSON, an object of field names with a text or a
// list of texts for each, perhaps as a member "headers". Lines that begin with "#" are
// comments. Errors are of type *[CaptureError], and nothing is returned beside one.
func ParseCapture(data []byte) (*Capture, error) {
	if len(data) > maxCapture {
		return nil, &CaptureError{Fault: fmt.Sprintf("larger than %d MiB", maxCapture>>20)}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if t := bytes.TrimLeft(data, " \t\r\n"); len(t) > 0 && t[0] == '{' {
		return parseJSONCapture(t)
	}
	c := &Capture{}
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	lines := strings.Split(text, "\n")
	curl := slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "> ") && !strings.HasPrefix(l, "> {") })
	begun := false
	for i, line := range lines {
		n := i + 1
		if curl {
			rest, ok := strings.CutPrefix(line, "> ")
			if !ok {
				if line != ">" {
					continue // what the server said, and what curl says
				}
				rest = ""
			}
			line = rest
		}
		switch {
		case line == "" || line == "\r":
			if !begun {
				continue
			}
			if !curl {
				c.body(strings.Join(lines[i+1:], "\n"))
			}
			return c.finish()
		case strings.HasPrefix(line, "#"):
			continue
		case !begun && isRequestLine(line):
			begun = true
			continue
		}
		if last := c.last(); last != nil && last.open(line) {
			last.Value += "\n" + line
			last.Lines++
			continue
		}
		if strings.HasPrefix(line, ":") { // a pseudo-field of HTTP/2
			name, value, _ := strings.Cut(line[1:], ":")
			if name == "authority" {
				c.Host = strings.TrimSpace(value)
			}
			begun = true
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name = strings.TrimRight(name, " \t")
		if !ok || !isFieldName(name) {
			return nil, &CaptureError{n, `expected a header line, "Name: value"`}
		}
		if len(c.Fields) == maxFields {
			return nil, &CaptureError{n, fmt.Sprintf("more than %d header fields", maxFields)}
		}
		begun = true
		c.Fields = append(c.Fields, Field{Name: name, Value: strings.Trim(value, " \t"), Line: n, Lines: 1})
	}
	return c.finish()
}

func isRequestLine(line string) bool {
	parts := strings.Fields(line)
	return len(parts) == 3 && strings.HasPrefix(parts[2], "HTTP/") && !strings.Contains(parts[0], ":")
}

func (c *Capture) last() *Field {
	if len(c.Fields) == 0 {
		return nil
	}
	return &c.Fields[len(c.Fields)-1]
}

// open reports whether line goes on with the value of f: it is folded (RFC 9112, Section
// 5.2), or f is PEM that was not made for a header and has not ended.
func (f *Field) open(line string) bool {
	if line[0] == ' ' || line[0] == '\t' {
		return true
	}
	return strings.HasPrefix(f.Value, "-----BEGIN ") && strings.Count(f.Value, "-----BEGIN ") > strings.Count(f.Value, "-----END ") ||
		f.Lines > 1 && strings.HasPrefix(line, "-----BEGIN ")
}

func isFieldName(s string) bool {
	return s != "" && len(s) <= 256 && strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	}) < 0
}

// body reads the client_id of a form, and nothing else: there may be secrets.
func (c *Capture) body(text string) {
	text = strings.TrimSpace(text)
	if len(text) > 1<<16 || strings.ContainsAny(text, " \n{") {
		return
	}
	form, err := url.ParseQuery(text)
	if err == nil && len(form["client_id"]) == 1 {
		c.ClientID = form.Get("client_id")
	}
}

func (c *Capture) finish() (*Capture, error) {
	if len(c.Fields) == 0 {
		return nil, &CaptureError{Fault: "no header field in it"}
	}
	for _, f := range c.Fields {
		if strings.EqualFold(f.Name, "Host") {
			c.Host = cmp.Or(c.Host, f.Value)
		}
	}
	return c, nil
}

func parseJSONCapture(data []byte) (*Capture, error) {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, &CaptureError{Fault: "begins like JSON, but is not an object: " + err.Error()}
	}
	for name, value := range members {
		if strings.EqualFold(name, "headers") && len(value) > 0 && value[0] == '{' {
			members = map[string]json.RawMessage{}
			if err := json.Unmarshal(value, &members); err != nil {
				return nil, &CaptureError{Fault: "headers: " + err.Error()}
			}
			break
		}
	}
	c := &Capture{}
	for name, value := range members {
		if !isFieldName(name) {
			return nil, &CaptureError{Fault: fmt.Sprintf("%q is not the name of a header field", clip(name, 64))}
		}
		var one string
		list := []string{""}
		if json.Unmarshal(value, &one) == nil {
			list[0] = one
		} else if json.Unmarshal(value, &list) != nil {
			return nil, &CaptureError{Fault: fmt.Sprintf("%s: expected a text or a list of texts", name)}
		}
		for _, v := range list {
			if len(c.Fields) == maxFields {
				return nil, &CaptureError{Fault: fmt.Sprintf("more than %d header fields", maxFields)}
			}
			c.Fields = append(c.Fields, Field{Name: name, Value: v, Lines: 1})
		}
	}
	slices.SortStableFunc(c.Fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	return c.finish()
}

// folded returns the first field over several lines, which net/http does not take and
// no server should (RFC 9112, Section 5.2).
func (c *Capture) folded() *Field {
	for i := range c.Fields {
		if c.Fields[i].Lines > 1 || strings.ContainsAny(c.Fields[i].Value, "\n\r") {
			return &c.Fields[i]
		}
	}
	return nil
}

// request makes the request that a server would see.
func (c *Capture) request(ctx context.Context) *http.Request {
	h := make(http.Header)
	for _, f := range c.Fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		if name != "Host" {
			h[name] = append(h[name], f.Value)
		}
	}
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, Host: c.Host}
	return r.WithContext(certsource.ConnContext(ctx, peerConn{addr: peerAddr(c.Peer)}))
}

// A peerConn is a connection of which only the peer is known.
type peerConn struct {
	net.Conn
	addr net.Addr
}

func (c peerConn) RemoteAddr() net.Addr { return c.addr }

// peerAddr reads Peer. Without one the peer is whoever the source trusts: explain puts
// a unix socket into the hop.
func peerAddr(peer string) net.Addr {
	if ap, err := netip.ParseAddrPort(peer); err == nil {
		return net.TCPAddrFromAddrPort(ap)
	}
	if a, err := netip.ParseAddr(peer); err == nil {
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
	}
	return &net.UnixAddr{Net: "unix"}
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
