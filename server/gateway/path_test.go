package gateway

import (
	"errors"
	"strings"
	"testing"
)

func TestNormalPath(t *testing.T) {
	tests := []struct {
		name, in, want string
		wantErr        error
	}{
		{"root", "/", "/", nil},
		{"plain", "/orders/17", "/orders/17", nil},
		{"trailing slash stays", "/orders/", "/orders/", nil},
		{"unreserved characters are not escaped", "/%61dmin/%7Eme", "/admin/~me", nil},
		{"upper-case digits", "/caf%c3%a9", "/caf%C3%A9", nil},
		{"what needs an escape gets one", `/a|b^c"d`, "/a%7Cb%5Ec%22d", nil},
		{"an escaped percent sign", "/100%25", "/100%25", nil},
		{"three dots are a name", "/.../x", "/.../x", nil},
		{"encoded space and question mark", "/a%20b%3Fc", "/a%20b%3Fc", nil},
		{"empty", "", "", errPathForm},
		{"relative", "admin", "", errPathForm},
		{"of OPTIONS", "*", "", errPathForm},
		{"too long", "/" + strings.Repeat("a", maxPath), "", errPathForm},
		{"dot segment", "/public/../admin", "", errPathSegment},
		{"dot segment at the end", "/public/..", "", errPathSegment},
		{"single dot", "/./admin", "", errPathSegment},
		{"encoded dots", "/public/%2e%2E/admin", "", errPathSegment},
		{"double slash", "//admin", "", errPathSegment},
		{"double slash inside", "/a//b", "", errPathSegment},
		{"encoded slash", "/public%2fadmin", "", errPathCharacter},
		{"encoded backslash", "/public%5cadmin", "", errPathCharacter},
		{"backslash", `/public\..\admin`, "", errPathCharacter},
		{"parameters", "/public/..;/admin", "", errPathCharacter},
		{"encoded semicolon", "/admin%3bx", "", errPathCharacter},
		{"NUL", "/admin%00.png", "", errPathCharacter},
		{"line end", "/a%0d%0aX-Auth-Sub:x", "", errPathCharacter},
		{"not ASCII", "/caf\xc3\xa9", "", errPathCharacter},
		{"a space", "/a b", "", errPathCharacter},
		{"dots in a form that is too long", "/public/%c0%ae%c0%ae/admin", "", errPathCharacter},
		{"encoded twice", "/%252e%252e/admin", "", errPathEscape},
		{"encoded twice, in parts", "/%25%32%65%25%32e/admin", "", errPathEscape},
		{"cut off", "/a%2", "", errPathEscape},
		{"no digits", "/a%zz", "", errPathEscape},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := NormalPath(tt.in)
			if got != tt.want || !errors.Is(err, tt.wantErr) {
				t.Errorf("got %q, %v, want %q, %v", got, err, tt.want, tt.wantErr)
			}
		})
	}
}

func FuzzNormalPath(f *testing.F) {
	for _, s := range []string{"/", "/a/b", "/%61", "/a%2fb", "/a|b", "/..;/x", "//", "/%25", "/%252e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := NormalPath(in)
		if err != nil {
			if got != "" {
				t.Errorf("%q beside %v", got, err)
			}
			for _, known := range []error{errPathForm, errPathEscape, errPathCharacter, errPathSegment} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Errorf("undeclared error %v", err)
		}
		if again, err := NormalPath(got); len(got) <= maxPath && (again != got || err != nil) {
			t.Errorf("%q becomes %q, then %q, %v", in, got, again, err)
		}
	})
}

func TestRouter(t *testing.T) {
	routes := []*Route{
		{Name: "any", Path: "/"},
		{Name: "api", Hosts: []string{"api.example"}, Path: "/v1"},
		{Name: "api-read", Hosts: []string{"api.example"}, Path: "/v1/orders/", Methods: []string{"GET"}},
		{Name: "api-write", Hosts: []string{"api.example"}, Path: "/v1/orders", Methods: []string{"POST", "PUT"}},
		{Name: "admin", Hosts: []string{"API.example"}, Path: "/v1/admin"},
		{Name: "wild", Hosts: []string{"*.example"}, Path: "/"},
		{Name: "wilder", Hosts: []string{"*.eu.example"}, Path: "/x"},
	}
	r, err := newRouter(routes)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ host, path, method, want, allow string }{
		{"api.example", "/v1", "GET", "api", ""},
		{"api.example", "/v1/", "GET", "api", ""},
		{"api.example", "/v1/other/deep/path/of/many/parts", "GET", "api", ""},
		{"api.example", "/v12", "GET", "", ""},
		{"api.example", "/", "GET", "", ""}, // not the route for any host
		{"api.example", "/v1/orders/7", "GET", "api-read", ""},
		{"api.example", "/v1/orders", "HEAD", "api-read", ""},
		{"api.example", "/v1/orders", "PUT", "api-write", ""},
		{"api.example", "/v1/orders/7", "DELETE", "", "GET POST PUT"}, // not the route above
		{"api.example", "/v1/ordersx", "DELETE", "api", ""},
		{"api.example", "/v1/admin", "GET", "admin", ""},
		{"www.example", "/a", "GET", "wild", ""},
		{"a.b.example", "/a", "GET", "wild", ""},
		{"a.eu.example", "/x/y", "GET", "wilder", ""},
		{"a.eu.example", "/y", "GET", "", ""},
		{"example", "/a", "GET", "any", ""},
		{"192.0.2.1", "/a", "GET", "any", ""},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.host+tt.path, func(t *testing.T) {
			route, allow := r.find(tt.host, tt.path, tt.method)
			name := ""
			if route != nil {
				name = route.Name
			}
			if name != tt.want || strings.Join(allow, " ") != tt.allow {
				t.Errorf("got %q, allow %q, want %q, %q", name, allow, tt.want, tt.allow)
			}
		})
	}
	for name, bad := range map[string][]*Route{
		"path":          {{Name: "a", Path: "x"}},
		"dots":          {{Name: "a", Path: "/a/../b"}},
		"method":        {{Name: "a", Methods: []string{"get"}}},
		"CONNECT":       {{Name: "a", Methods: []string{"CONNECT"}}},
		"host and port": {{Name: "a", Hosts: []string{"api.example:443"}}},
		"star inside":   {{Name: "a", Hosts: []string{"api.*.example"}}},
		"twice":         {{Name: "a", Path: "/x/"}, {Name: "b", Path: "/x"}},
		"same method":   {{Name: "a", Methods: []string{"GET", "PUT"}}, {Name: "b", Methods: []string{"PUT"}}},
	} {
		if _, err := newRouter(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNormalHost(t *testing.T) {
	tests := []struct {
		in, want string
		ok       bool
	}{
		{"Api.Example.:8443", "api.example", true},
		{"192.0.2.1:80", "192.0.2.1", true},
		{"[2001:DB8::1]:8443", "2001:db8::1", true},
		{"[2001:db8::1]", "2001:db8::1", true},
		{"", "", false}, {".", "", false}, {":80", "", false},
		{"2001:db8::1", "", false}, {"[api.example]", "", false}, {"[::1]x", "", false},
		{"api.example/x", "", false}, {"api_1.example", "api_1.example", true}, {"a\u212aa", "", false},
	}
	for _, tt := range tests {
		if got, ok := normalHost(tt.in); got != tt.want || ok != tt.ok {
			t.Errorf("%q: got %q, %v, want %q, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}
