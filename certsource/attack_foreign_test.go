package certsource_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certbound/certbound/certsource"
)

// A stranger sends thousands of header fields whose names begin like those of proxies, or
// one of 100 kB. All of them came back, to be stored in the decision and written to the
// log, also of requests that were let in. There are few now, and they are short.
func TestAttackManyForeignFields(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	for i := range 3000 {
		r.Header[fmt.Sprintf("Client-Cert-%d", i)] = []string{""}
	}
	r.Header["Client-Cert-"+strings.Repeat("0", 100<<10)] = []string{""}
	total := 0
	found := certsource.Foreign(r)
	for _, name := range found {
		total += len(name)
	}
	if len(found) == 0 || len(found) > 32 || total > 32*80 {
		t.Errorf("%d names of %d bytes", len(found), total)
	}
}
