package certsource_test

import (
	"fmt"
	"net/netip"

	"github.com/certbound/certbound/certsource"
)

// A server behind nginx, which is known by its address and by the key of its own
// certificate.
func ExampleNewPreset() {
	source, err := certsource.NewPreset("nginx", certsource.PresetConfig{
		Hop: certsource.Hop{
			Prefixes:   []netip.Prefix{netip.MustParsePrefix("10.0.3.0/28")},
			PublicKeys: []string{"uGU3gCAiQCZZTfAbxRQXbYOCGh2jQMJXDJbGmcAvRPM"},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(source.Name(), certsource.Describe(source).Fields)

	// Nobody is trusted by default.
	_, err = certsource.NewPreset("nginx", certsource.PresetConfig{})
	fmt.Println(err != nil)
	// Output:
	// nginx [X-Ssl-Client-Cert X-Ssl-Client-Verify]
	// true
}
