package authserver_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
)

type nopCloser struct{ io.Reader }

func (nopCloser) Close() error { return nil }

// A pipeConn is a connection that only has an address.
type pipeConn struct{}

func (pipeConn) Read([]byte) (int, error)         { return 0, io.EOF }
func (pipeConn) Write(p []byte) (int, error)      { return len(p), nil }
func (pipeConn) Close() error                     { return nil }
func (pipeConn) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }
func (pipeConn) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (pipeConn) SetDeadline(time.Time) error      { return nil }
func (pipeConn) SetReadDeadline(time.Time) error  { return nil }
func (pipeConn) SetWriteDeadline(time.Time) error { return nil }

// versions runs a test over TLS 1.2 and TLS 1.3 (M-7.3-1), each on a fresh bench.
func versions(t *testing.T, test func(t *testing.T, as *fixture.AS, v uint16), changes ...func(*authserver.Config)) {
	for name, v := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "M-7.3-1")
			test(t, fixture.Start(t, changes...), v)
		})
	}
}

// proves runs a subtest that proves requirements.
func proves(t *testing.T, ids, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Helper()
		if ids != "" {
			t.Attr("requirement", ids)
		}
		test(t)
	})
}

// The outcomes of the requirements, Section 0.3.

func wantOK(t *testing.T, r *fixture.Answer) {
	t.Helper()
	if r.Status != 200 || r.JSON == nil || r.AccessToken() == "" || r.JSON["token_type"] != "Bearer" {
		t.Fatalf("expected a token, found %d %s", r.Status, r.Text)
	}
	wantNoStore(t, r)
}

func wantNoStore(t *testing.T, r *fixture.Answer) {
	t.Helper()
	if r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control is %q", r.Header.Get("Cache-Control"))
	}
}

func wantError(t *testing.T, r *fixture.Answer, status int, code string) {
	t.Helper()
	if r.Status != status || r.Error() != code || r.AccessToken() != "" {
		t.Fatalf("expected %d %s, found %d %s", status, code, r.Status, r.Text)
	}
	wantNoStore(t, r)
	if r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Location") != "" {
		t.Errorf("Content-Type %q, Location %q", r.Header.Get("Content-Type"), r.Header.Get("Location"))
	}
	// RFC 6749, Section 5.2: the characters of error and error_description.
	description, _ := r.JSON["error_description"].(string)
	for i := range len(description) {
		if c := description[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			t.Errorf("error_description has the character %q", c)
		}
	}
	if r.Status == 401 && r.Header.Get("WWW-Authenticate") == "" {
		t.Error("401 without a challenge")
	}
	if len(r.Header.Get(authserver.RequestIDHeader)) < 16 {
		t.Error("no request id")
	}
}

func wantIC(t *testing.T, r *fixture.Answer) { t.Helper(); wantError(t, r, 401, "invalid_client") }
func wantIR(t *testing.T, r *fixture.Answer) { t.Helper(); wantError(t, r, 400, "invalid_request") }

// wantTF makes a request that must not get an answer, because TLS fails. With TLS 1.3
// the client may only learn it from the first read.
func wantTF(t *testing.T, c *http.Client) {
	t.Helper()
	resp, err := c.Post(fixture.MTLSBase+"/token", "application/x-www-form-urlencoded", strings.NewReader("client_id=c-dn&grant_type=client_credentials"))
	if err == nil {
		resp.Body.Close()
		t.Fatalf("expected TLS to fail, found status %d", resp.StatusCode)
	}
}

func wantReason(t *testing.T, as *fixture.AS, reason decision.Reason) {
	t.Helper()
	if got := as.LastDecision().Reason(); got != reason {
		t.Errorf("expected reason %q, found\n%s", reason, as.LastDecision())
	}
}

var errTest = errors.New("hook: out of order")

func marshal(v any) ([]byte, error) { return json.Marshal(v) }

func base64Std(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func base64URL(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
