package subject_test

import (
	"testing"

	"github.com/certbound/certbound/pki/subject"
	"github.com/certbound/certbound/pkitest"
)

// What the directories of open banking ecosystems register, in every spelling that their
// documents and their participants' libraries use, names the certificate that they issue
// (notes Q51). The types that libraries know by different names, or not at all, are
// businessCategory, jurisdictionCountryName, serialNumber and organizationIdentifier.
func TestOpenBankingSpellings(t *testing.T) {
	brazil := pkitest.LeafOptions{Subject: "UID=67c57882-043b-11ec-9a03-0242ac130003,1.3.6.1.4.1.311.60.2.1.3=#13024252," +
		"2.5.4.15=#0c0f427573696e65737320456e74697479,2.5.4.5=#130e3133333533323336303030313839," +
		"CN=mycn.bank.example,OU=497e1ffe-b2a2-4a4c-8aa5-0242ac130003,O=MYBANK,L=Brasilia,ST=DF,C=BR"}
	london := pkitest.LeafOptions{Subject: "CN=0015800001041REAAY,2.5.4.97=#0c125053444742" + "2d4643412d373635313132" + "3031,O=Bank PLC,C=GB"}
	const tail = ",CN=mycn.bank.example,OU=497e1ffe-b2a2-4a4c-8aa5-0242ac130003,O=MYBANK,L=Brasilia,ST=DF,C=BR"
	const uid = "UID=67c57882-043b-11ec-9a03-0242ac130003,"
	const psd = "PSDGB-FCA-76511201"
	for _, row := range []struct {
		name string
		leaf pkitest.LeafOptions
		text string
		want bool
	}{
		{"types and values in numbers", brazil, uid + "1.3.6.1.4.1.311.60.2.1.3=#13024252,2.5.4.15=#0c0f427573696e65737320456e74697479,2.5.4.5=#130e3133333533323336303030313839" + tail, true},
		{"types in numbers", brazil, uid + "1.3.6.1.4.1.311.60.2.1.3=BR,2.5.4.15=Business Entity,2.5.4.5=13353236000189" + tail, true},
		{"types with OID in front", brazil, uid + "OID.1.3.6.1.4.1.311.60.2.1.3=BR,OID.2.5.4.15=Business Entity,SERIALNUMBER=13353236000189" + tail, true},
		{"types by name", brazil, uid + "jurisdictionCountryName=BR,businessCategory=Business Entity,serialNumber=13353236000189" + tail, true},
		{"types as OpenSSL calls them", brazil, uid + "jurisdictionC = BR, businessCategory = Business Entity, serialNumber = 13353236000189" + tail, true},
		{"hex of another string type", brazil, uid + "jurisdictionC=#0c024252,businessCategory=#130f427573696e65737320456e74697479,serialNumber=13353236000189" + tail, true},
		{"another order", brazil, "jurisdictionC=BR," + uid + "businessCategory=Business Entity,serialNumber=13353236000189" + tail, false},
		{"another jurisdiction", brazil, uid + "jurisdictionC=GB,businessCategory=Business Entity,serialNumber=13353236000189" + tail, false},
		{"jurisdiction as a country", brazil, uid + "C=BR,businessCategory=Business Entity,serialNumber=13353236000189" + tail, false},
		{"organizationIdentifier in numbers", london, "CN=0015800001041REAAY,2.5.4.97=" + psd + ",O=Bank PLC,C=GB", true},
		{"organizationIdentifier as hex", london, "CN=0015800001041REAAY,2.5.4.97=#0c12" + "50534447422d4643412d3736353131323031" + ",O=Bank PLC,C=GB", true},
		{"organizationIdentifier by name", london, "CN=0015800001041REAAY,organizationIdentifier=" + psd + ",O=Bank PLC,C=GB", true},
		{"organizationIdentifier, RFC 2253 style", london, "cn=0015800001041REAAY, OID.2.5.4.97=" + psd + ", o=bank plc, c=gb", true},
		{"another authority", london, "CN=0015800001041REAAY,organizationIdentifier=PSDDE-BAFIN-76511201,O=Bank PLC,C=GB", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			expected, err := subject.New(subject.DN, row.text)
			if err != nil {
				t.Fatal(err)
			}
			if err := expected.Match(pkitest.MustSelfSigned(row.leaf).Cert); (err == nil) != row.want {
				t.Errorf("matches: %v, want %v", err, row.want)
			}
		})
	}
}

func TestWithin(t *testing.T) {
	for _, row := range []struct {
		name, base string
		want       bool
	}{
		{"CN=a,O=Agora,C=GB", "O=Agora,C=GB", true},
		{"O=Agora,C=GB", "O=Agora,C=GB", true},
		{"CN=a,O=agora,C=gb", "O=AGORA,C=GB", true},
		{"CN=a,O=Agora+OU=x,C=GB", "OU=x+O=Agora,C=GB", true},
		{"CN=a,O=Agora,C=GB", "", true},
		{"", "", true},
		{"", "C=GB", false},
		{"C=GB", "O=Agora,C=GB", false},
		{"C=GB,O=Agora", "O=Agora", true},
		{"O=Agora,C=GB", "O=Agora", false},
		{"CN=a,O=Agora+OU=x,C=GB", "O=Agora,C=GB", false},
		{`CN=a\00,O=Agora`, "O=Agora", false},
		{"CN=a,O=Agora", `O=Agora\00`, false},
	} {
		name, err := subject.ParseName(row.name)
		if err != nil {
			t.Fatal(err)
		}
		base, err := subject.ParseName(row.base)
		if err != nil {
			t.Fatal(err)
		}
		if got := name.Within(base); got != row.want {
			t.Errorf("%q within %q: %v", row.name, row.base, got)
		}
	}
}
