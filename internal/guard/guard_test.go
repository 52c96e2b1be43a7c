package guard_test

import (
	"net/netip"
	"testing"

	"github.com/certbound/certbound/internal/guard"
)

// Public addresses pass the check. Nothing is dialled: the test asks the function.
func TestPublic(t *testing.T) {
	for _, a := range []string{"8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "2606:4700::1111", "2a00::1"} {
		if !guard.Public(netip.MustParseAddr(a)) {
			t.Errorf("%s is refused", a)
		}
	}
	// net dials this one as IPv4; should it ever not, a gateway might.
	if guard.Public(netip.MustParseAddr("::ffff:8.8.8.8")) {
		t.Error("an IPv4-mapped address passes")
	}
}
