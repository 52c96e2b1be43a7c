package e2e

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/certbound/certbound/internal/fixture"
)

func kidOf(t *testing.T, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	data, err := base64.RawURLEncoding.DecodeString(head)
	var h struct{ Kid string }
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err != nil || h.Kid == "" {
		t.Fatalf("no kid in the token: %v", err)
	}
	return h.Kid
}

// A signing key has leaked: whoever has it signs tokens for anybody. After the command it
// is nowhere any more, its tokens are worthless, and a running server signs with another.
func TestRemoveLeakedKey(t *testing.T) {
	dir := folder(t, settings{clients: `- {client_id: c-dn, token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: "` + fixture.SubjectDN + `", scope: read, may_introspect: true}` + "\n"})
	p := serve(t, dir)
	w := newWorld(p)
	c := w.as(t, w.L1)
	old := w.token(t, c, "c-dn").AccessToken()
	kid := kidOf(t, old)
	active := func(token string) bool {
		a := w.post(t, c, "/introspect", "client_id", "c-dn", "token", token)
		return a.Status == 200 && strings.Contains(a.Text, `"active":true`)
	}
	if !active(old) {
		t.Fatal("the token is not active before")
	}
	if r := command(t, dir, "keys", "remove", kid); r.code != 2 || !strings.Contains(r.stderr, "--yes") {
		t.Errorf("without --yes: exit code %d\n%s", r.code, r.stderr)
	}
	if r := command(t, dir, "keys", "remove", "other", "--yes"); r.code != 1 || !strings.Contains(r.stderr, "there is no key other") {
		t.Errorf("another key: exit code %d\n%s", r.code, r.stderr)
	}
	var done struct{ Removed, Made string }
	if err := json.Unmarshal([]byte(must(t, dir, "keys", "remove", kid, "--yes", "--json")), &done); err != nil {
		t.Fatal(err)
	}
	if done.Removed != kid || done.Made == "" || done.Made == kid {
		t.Errorf("the command says %+v", done)
	}
	p.eventually(t, "the token is worthless", func() bool { return !active(old) })
	next := w.token(t, c, "c-dn").AccessToken()
	if got := kidOf(t, next); got != done.Made || !active(next) {
		t.Errorf("the next token is signed by %s, expected %s; active: %v", got, done.Made, active(next))
	}
	res, err := c.Get("https://" + publicHost + "/jwks")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	set, err := io.ReadAll(res.Body)
	if err != nil || strings.Contains(string(set), kid) || !strings.Contains(string(set), done.Made) {
		t.Errorf("%v: the key set is %s", err, set)
	}
}
