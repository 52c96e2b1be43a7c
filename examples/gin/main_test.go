package main

import (
	"testing"

	"github.com/certbound/certbound/examples/internal/try"
)

func TestRoutes(t *testing.T) { try.HTTP(t, routes) }
