package probe_test

import (
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/server/probe"
)

// A server without a store keeps a few credentials, and forgets those that end first.
func TestMemory(t *testing.T) {
	now := time.Now()
	m := &probe.Memory{Now: func() time.Time { return now }}
	url := server(t, probe.Config{Listener: "gateway", Source: certsource.TLS{}, Store: m, Now: func() time.Time { return now }})
	var credentials []string
	for i := range probe.MaxInMemory + 1 {
		c, _, err := probe.Create(t.Context(), m, time.Hour+time.Duration(i)*time.Minute, now)
		if err != nil {
			t.Fatal(err)
		}
		credentials = append(credentials, c)
	}
	if ask(t, url, "Bearer "+credentials[0], nil) != nil {
		t.Error("the one that ends first counts, although there are too many")
	}
	for i, c := range credentials[1:] {
		if ask(t, url, "Bearer "+c, nil) == nil {
			t.Fatalf("credential %d does not count", i+1)
		}
		now = now.Add(time.Second) // no more than 20 look-ups in a second
	}
	now = now.Add(3 * time.Hour)
	if ask(t, url, "Bearer "+credentials[1], nil) != nil {
		t.Error("a credential counts after its end")
	}
}
