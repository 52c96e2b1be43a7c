package oauthclient

import "testing"

// The id of a request is shown in a command to paste: what a hostile server writes
// there must not become part of a command line.
func TestRequestID(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"08d4a3f17934fe9d", "08d4a3f17934fe9d"},
		{"", ""},
		{"$(id)", ""},
		{"--log=/etc/passwd", ""},
		{"a b", ""},
		{"a\nb", ""},
		{string(make([]byte, 65)), ""},
	} {
		if got := requestID(tt.in); got != tt.want {
			t.Errorf("requestID(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}
