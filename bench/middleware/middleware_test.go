package middleware

import "testing"

func BenchmarkMiddleware(b *testing.B) {
	for _, c := range Cases {
		b.Run(c.Name, c.Run)
	}
}
