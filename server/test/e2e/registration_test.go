package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/certbound/certbound/internal/fixture"
)

// The whole way of a client that registers itself: an invitation by command, a
// registration over mutual TLS, tokens, a change, and its end; with a kill -9 in between,
// after which nothing that was acknowledged is lost and no use of the invitation comes back.
func TestClientsRegisterThemselves(t *testing.T) {
	dir := folder(t, settings{more: "registration: {enabled: true, scopes: [read]}\n"})
	var invited struct {
		Token string `json:"initial_access_token"`
	}
	out := must(t, dir, "client", "invite", "partner", "--anchor-set", "ca2", "--scope", "write", "--uses", "1", "--json")
	if err := json.Unmarshal([]byte(out), &invited); err != nil || invited.Token == "" {
		t.Fatalf("%v\n%s", err, out)
	}
	remember("an initial access token", invited.Token)

	call := func(w *world, method, url, bearer string, body any) *fixture.Answer {
		t.Helper()
		data, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		return fixture.Do(t, w.http(t, w.clientTLS(w.L1CA2)), req)
	}
	token := func(w *world, id string) *fixture.Answer {
		t.Helper()
		r := fixture.Post(t, w.http(t, w.clientTLS(w.L1CA2)), fixture.MTLSBase+"/token", "grant_type", "client_credentials", "client_id", id)
		remember("an access token", r.AccessToken())
		return r
	}
	client := map[string]any{
		"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_dns": "client-1.example",
		"grant_types": []string{"client_credentials"}, "tls_client_certificate_bound_access_tokens": true, "certbound_anchor_set": "ca1",
	}

	p := serve(t, dir)
	w := newWorld(p)
	if r := call(w, "POST", fixture.MTLSBase+"/register", "", client); r.Status != 401 {
		t.Errorf("without a token: %d %s", r.Status, r.Text)
	}
	r := call(w, "POST", fixture.MTLSBase+"/register", invited.Token, client)
	if r.Status != 201 || r.JSON["scope"] != "write" {
		t.Fatalf("%d %s", r.Status, r.Text)
	}
	id, manage, uri := r.JSON["client_id"].(string), r.JSON["registration_access_token"].(string), r.JSON["registration_client_uri"].(string)
	remember("a registration access token", manage)
	if got := token(w, id); got.Status != 200 || got.Cnf() == "" {
		t.Errorf("%d %s", got.Status, got.Text)
	}
	p.eventually(t, "the linter speaks", func() bool {
		return strings.Contains(p.text(), "registration: the certificate has more than one name")
	})

	p.kill(t)
	p = serve(t, dir)
	w = newWorld(p)
	if got := token(w, id); got.Status != 200 {
		t.Errorf("after a crash: %d %s", got.Status, got.Text)
	}
	if r := call(w, "POST", fixture.MTLSBase+"/register", invited.Token, client); r.Status != 401 {
		t.Errorf("the second use of an invitation for one: %d %s", r.Status, r.Text)
	}
	list := must(t, dir, "client", "list")
	if !strings.Contains(list, id) {
		t.Errorf("%s", list)
	}
	client["client_id"], client["tls_client_auth_san_dns"] = id, "other.example"
	if r := call(w, "PUT", uri, manage, client); r.Status != 200 {
		t.Errorf("%d %s", r.Status, r.Text)
	}
	if got := token(w, id); got.Error() != "invalid_client" {
		t.Errorf("with the subject before: %d %s", got.Status, got.Text)
	}
	if r := call(w, "DELETE", uri, manage, nil); r.Status != 204 {
		t.Errorf("%d %s", r.Status, r.Text)
	}
	if r := call(w, "GET", uri, manage, nil); r.Status != 401 {
		t.Errorf("%d %s", r.Status, r.Text)
	}
	if list := must(t, dir, "client", "list"); strings.Contains(list, id) {
		t.Errorf("%s", list)
	}
}
