# Exact in virtual time; then for real, with a key that is pressed at once.
"$1/countdown" --simulate || exit 1
echo "for real"
echo | "$1/countdown" -2 | sed 's/.* s  //'
