package httpauth

import (
	"io"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// Whatever the middleware reads of a form, the next handler reads the same.
func FuzzForm(f *testing.F) {
	for _, s := range []string{
		"client_id=a", "client_id=a&client_id=b", "client%5fid=a%20b+c", "a=b;client_id=c", "%zz=1&client_id=a", "client_id", "&&", "client_secret=x&client_id=a",
		"client_id=" + strings.Repeat("a", 600), "client_id=\x00", "=client_id", "client_id==a",
	} {
		f.Add(s, "")
		f.Add("client_id=a", s)
	}
	f.Fuzz(func(t *testing.T, body, query string) {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		form := form{body: r.Body}
		c := form.read(httptest.NewRecorder(), r, 64<<10)
		if c.Name != "" {
			if form.clientID != "" {
				t.Errorf("client_id %q beside %s", form.clientID, c.Reason)
			}
			if c.Reason == "" || c.Expected == "" {
				t.Errorf("a refusal that says nothing: %+v", c)
			}
			return
		}
		r.Body = form.body
		if got, _ := io.ReadAll(form.body); string(got) != body {
			t.Errorf("the body has become %q", got)
		}
		values, err := url.ParseQuery(body)
		if err != nil || !slices.Equal(values["client_id"], []string{form.clientID}) {
			t.Errorf("read %q, the next handler reads %q (%v)", form.clientID, values["client_id"], err)
		}
		if (form.other != "") != (values.Has("client_secret") || values.Has("client_assertion")) {
			t.Errorf("other credential %q of %q", form.other, body)
		}
		if q, _ := url.ParseQuery(query); q.Has("client_id") {
			t.Errorf("client_id in the query %q was not seen", query)
		}
		// What was accepted means the same in its canonical form.
		r = httptest.NewRequest("POST", "/", strings.NewReader(url.Values{"client_id": {form.clientID}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		again := form
		if c := again.read(httptest.NewRecorder(), r, 64<<10); c.Name != "" || again.clientID != form.clientID {
			t.Errorf("%q became %q (%s)", form.clientID, again.clientID, c.Reason)
		}
	})
}
