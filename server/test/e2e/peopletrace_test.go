package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/certbound/certbound/internal/fixture"
)

// traced sends the trace of the caller along.
type traced struct {
	next  http.RoundTripper
	trace string
}

func (tr traced) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Traceparent", "00-"+tr.trace+"-00f067aa0ba902b7-01")
	return tr.next.RoundTrip(r)
}

// One person's login, from the pushed request to the tokens, is one trace if client and
// browser, or what stands in front of them, send it along. No code and no token stands in it.
func TestLoginInOneTrace(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100") // ms; the program inherits it
	otlp := newReceiver(t)
	dir := folder(t, settings{
		scopes: "read, openid",
		more: `people: {enabled: true, login: accounts}
telemetry: {otlp: grpc, endpoint: "` + otlp.grpc + `", interval: 1s}`,
		clients: `  - {client_id: app, token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: "` + fixture.SubjectDN + `", redirect_uris: ["` + callback + `"], grant_types: [authorization_code, refresh_token], scope: openid read}
`})
	var password string
	for line := range strings.Lines(must(t, dir, "user", "add", "ann", "--generate")) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "password" {
			password = remember("a password", fields[1])
		}
	}
	w := newWorld(serve(t, dir))
	const trace = "4bf92f3577b34da6a3ce929d0e0e4738"
	app, person := w.as(t, w.L1), w.as(t, nil)
	app.Transport, person.Transport = traced{app.Transport, trace}, traced{person.Transport, trace}
	const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	sum := sha256.Sum256([]byte(verifier))
	r := fixture.Post(t, app, fixture.MTLSBase+"/par", "client_id", "app", "response_type", "code", "redirect_uri", callback, "scope", "openid read",
		"code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method", "S256")
	uri, _ := r.JSON["request_uri"].(string)
	b := fixture.NewBrowser(t, person, publicHost)
	at := b.Open(fixture.Issuer + "/authorize?" + url.Values{"client_id": {"app"}, "request_uri": {uri}}.Encode())
	at = b.Submit(b.Submit(at, "name", "ann", "password", password), "decision", "allow")
	code := remember("a code", at.Query("code"))
	r = noted(fixture.Post(t, app, fixture.MTLSBase+"/token", "client_id", "app", "grant_type", "authorization_code", "code", code,
		"redirect_uri", callback, "code_verifier", verifier))
	refresh, _ := r.JSON["refresh_token"].(string)
	if remember("a refresh token", refresh); r.Status != http.StatusOK || refresh == "" {
		t.Fatalf("expected tokens, found %d %s", r.Status, r.Error())
	}
	spans := []string{"POST par", "GET authorize", "GET login", "POST login", "POST consent", "POST token"}
	eventually(t, "all spans", func() bool {
		for _, name := range spans {
			if otlp.find(trace, "certbound-serve", name) == nil {
				return false
			}
		}
		return true
	}, otlp.describe)
	token := otlp.find(trace, "certbound-serve", "POST token")
	if got := value(token.Attributes, "certbound.client_id"); got != "app" {
		t.Errorf("the client of the token request is %q", got)
	}
	checkLog(t, otlp.describe())
}
