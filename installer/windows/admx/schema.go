package admx

import "encoding/xml"

// The types have the elements and attributes of Microsoft's "ADMX schema" that
// the templates use, in its order.

type definitions struct {
	XMLName    xml.Name   `xml:"policyDefinitions"`
	Xmlns      string     `xml:"xmlns,attr"`
	Revision   string     `xml:"revision,attr"`
	Schema     string     `xml:"schemaVersion,attr"`
	Target     target     `xml:"policyNamespaces>target"`
	Resources  revision   `xml:"resources"`
	Supported  definition `xml:"supportedOn>definitions>definition"`
	Categories []category `xml:"categories>category"`
	Policies   []policy   `xml:"policies>policy"`
}

type target struct {
	Prefix    string `xml:"prefix,attr"`
	Namespace string `xml:"namespace,attr"`
}

type revision struct {
	Min string `xml:"minRequiredRevision,attr"`
}

type definition struct {
	Name    string `xml:"name,attr"`
	Display string `xml:"displayName,attr"`
}

type category struct {
	Name    string `xml:"name,attr"`
	Display string `xml:"displayName,attr"`
	Parent  *ref   `xml:"parentCategory"`
}

type ref struct {
	Ref string `xml:"ref,attr"`
}

type policy struct {
	Name         string    `xml:"name,attr"`
	Class        string    `xml:"class,attr"`
	Display      string    `xml:"displayName,attr"`
	Explain      string    `xml:"explainText,attr"`
	Presentation string    `xml:"presentation,attr,omitempty"`
	Key          string    `xml:"key,attr"`
	ValueName    string    `xml:"valueName,attr,omitempty"`
	Parent       ref       `xml:"parentCategory"`
	Supported    ref       `xml:"supportedOn"`
	Enabled      *number   `xml:"enabledValue"`
	Disabled     *number   `xml:"disabledValue"`
	Elements     *elements `xml:"elements"`
}

type number struct {
	Decimal decimal `xml:"decimal"`
}

type decimal struct {
	Value int `xml:"value,attr"`
}

// elements has one of them.
type elements struct {
	Decimal *element `xml:"decimal"`
	Text    *element `xml:"text"`
	Enum    *element `xml:"enum"`
	List    *list    `xml:"list"`
}

type element struct {
	ID        string `xml:"id,attr"`
	ValueName string `xml:"valueName,attr"`
	Required  bool   `xml:"required,attr"`
	Min       *int64 `xml:"minValue,attr"`
	Max       *int64 `xml:"maxValue,attr"`
	MaxLength int    `xml:"maxLength,attr,omitempty"`
	Items     []item `xml:"item"`
}

type item struct {
	Display string `xml:"displayName,attr"`
	Value   string `xml:"value>string"`
}

type list struct {
	ID     string `xml:"id,attr"`
	Key    string `xml:"key,attr"`
	Prefix string `xml:"valuePrefix,attr"`
}

type resources struct {
	XMLName       xml.Name       `xml:"policyDefinitionResources"`
	Xmlns         string         `xml:"xmlns,attr"`
	Revision      string         `xml:"revision,attr"`
	Schema        string         `xml:"schemaVersion,attr"`
	Display       string         `xml:"displayName"`
	Description   string         `xml:"description"`
	Strings       []localized    `xml:"resources>stringTable>string"`
	Presentations []presentation `xml:"resources>presentationTable>presentation"`
}

type localized struct {
	ID   string `xml:"id,attr"`
	Text string `xml:",chardata"`
}

// presentation has one of them.
type presentation struct {
	ID       string      `xml:"id,attr"`
	Decimal  *decimalBox `xml:"decimalTextBox"`
	Text     *textBox    `xml:"textBox"`
	Dropdown *dropdown   `xml:"dropdownList"`
	List     *labelled   `xml:"listBox"`
}

type decimalBox struct {
	RefID   string `xml:"refId,attr"`
	Default int    `xml:"defaultValue,attr"`
	Label   string `xml:",chardata"`
}

type textBox struct {
	RefID   string `xml:"refId,attr"`
	Label   string `xml:"label"`
	Default string `xml:"defaultValue,omitempty"`
}

type dropdown struct {
	RefID   string `xml:"refId,attr"`
	NoSort  bool   `xml:"noSort,attr"`
	Default int    `xml:"defaultItem,attr"`
	Label   string `xml:",chardata"`
}

type labelled struct {
	RefID string `xml:"refId,attr"`
	Label string `xml:",chardata"`
}
