package doctor

import "testing"

// A deployment of ours has nothing to find, and every look was taken.
func TestHealthy(t *testing.T) {
	r := newWorld(t).examine()
	for _, f := range r.Findings {
		t.Logf("%-8s %-18s %-24s %s %q", f.Outcome, f.Check, f.Where, f.Found, f.Details)
	}
	if r.Problems != 0 || r.Skipped != 0 {
		t.Errorf("%d problems, %d skipped", r.Problems, r.Skipped)
	}
}
